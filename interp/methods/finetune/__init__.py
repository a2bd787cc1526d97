"""Fine-tuning: LoRA and QLoRA adapters with their provenance."""

from typing import TYPE_CHECKING

from interp.base.lazy import on_first_use
from interp.methods.finetune.config import FinetuneConfig

if TYPE_CHECKING:
    from interp.methods.finetune.training import train

__getattr__, __dir__ = on_first_use(__name__)

__all__ = ["FinetuneConfig", "train"]
