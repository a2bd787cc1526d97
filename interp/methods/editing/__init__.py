"""Methods that make a base express a trait: prompts, in-context editing, edits, steering."""

from interp.methods.editing.controls import shuffled
from interp.methods.editing.hooked_base import HookedBase
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
from interp.methods.editing.opposed import OpposedAnswers, opposed_answers
from interp.methods.editing.pas import pas
from interp.methods.editing.persona import persona_vector
from interp.methods.editing.similarity import SentenceEncoder
from interp.methods.editing.steered import Steered
from interp.methods.editing.steering import Steering

__all__ = [
    "Adapted",
    "Base",
    "EditReport",
    "EditedPair",
    "Editor",
    "EditorConfig",
    "Hooked",
    "HookedBase",
    "Ike",
    "LogitBias",
    "Mend",
    "Method",
    "OpposedAnswers",
    "SentenceEncoder",
    "Steered",
    "Steering",
    "TraitPrompt",
    "edit",
    "logit_bias",
    "opposed_answers",
    "pas",
    "persona_vector",
    "shuffled",
    "train_editor",
]
