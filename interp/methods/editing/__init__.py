"""Methods that make a base express a trait: prompts, in-context editing, edits, steering."""

from interp.methods.editing.contrast import Contrast, contrast
from interp.methods.editing.controls import shuffled
from interp.methods.editing.host import Host
from interp.methods.editing.ike import Ike
from interp.methods.editing.logit_bias import LogitBias, logit_bias
from interp.methods.editing.mend import (
    EditedPair,
    Editor,
    EditorConfig,
    EditReport,
    Mend,
    edit,
    train_editor,
)
from interp.methods.editing.method import Adapted, Base, Hooked, Method, TraitPrompt
from interp.methods.editing.pas import pas
from interp.methods.editing.persona import persona_vector
from interp.methods.editing.similarity import SentenceEncoder
from interp.methods.editing.steered import Steered
from interp.methods.editing.steering import Steering

__all__ = [
    "Adapted",
    "Base",
    "Contrast",
    "EditReport",
    "EditedPair",
    "Editor",
    "EditorConfig",
    "Hooked",
    "Host",
    "Ike",
    "LogitBias",
    "Mend",
    "Method",
    "SentenceEncoder",
    "Steered",
    "Steering",
    "TraitPrompt",
    "contrast",
    "edit",
    "logit_bias",
    "pas",
    "persona_vector",
    "shuffled",
    "train_editor",
]
