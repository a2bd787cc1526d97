"""Fine-tuning: LoRA and QLoRA adapters with their provenance, by imitation or by preference."""

from typing import TYPE_CHECKING

from interp.base.lazy import on_first_use
from interp.methods.finetune.config import FinetuneConfig

if TYPE_CHECKING:
    from interp.methods.finetune.preference import (
        Preference,
        Preferences,
        prefer,
        read_preferences,
    )
    from interp.methods.finetune.stages import write_stage
    from interp.methods.finetune.training import train

__getattr__, __dir__ = on_first_use(__name__)

__all__ = [
    "FinetuneConfig",
    "Preference",
    "Preferences",
    "prefer",
    "read_preferences",
    "train",
    "write_stage",
]
