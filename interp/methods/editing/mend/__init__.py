"""MEND (Mitchell et al. 2022, arXiv 2110.11309): edits by a trained network on gradients' factors.

An edit takes the gradient of one answer's likelihood in chosen weights, as rank-one factors, and
passes them through a small trained network; what comes out is added to the weights. Fast once the
network is trained: one forward and one backward pass per edit.

Where ours differs from the authors' code: the normalisation is measured once on the training edits,
per weight (theirs: a running one, per shape); step sizes are positive and learned on a log scale;
a gradient's sign is kept and the step goes against it, as the paper has it; the locality loss is on
answers about other topics; PersonalityEdit's unlikelihood of other traits' answers is part of the
edit loss (`c_bad`), and the edit is a chat turn with the loss on its answer.
"""

from interp.methods.editing.mend.edit import EditedPair, edit
from interp.methods.editing.mend.editor import EditorConfig
from interp.methods.editing.mend.folder import Editor
from interp.methods.editing.mend.method import Mend
from interp.methods.editing.mend.training import EditReport, train_editor

__all__ = ["EditReport", "EditedPair", "Editor", "EditorConfig", "Mend", "edit", "train_editor"]
