"""Fine-tuning: LoRA and QLoRA adapters with their provenance."""

from typing import TYPE_CHECKING

from interp.finetune.config import FinetuneConfig
from interp.lazy import on_first_use

if TYPE_CHECKING:
    from interp.finetune.training import train

__getattr__, __dir__ = on_first_use(__name__)

__all__ = ["FinetuneConfig", "train"]
