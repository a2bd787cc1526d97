"""Fine-tuning: LoRA and QLoRA adapters with their provenance."""

from interp.finetune.config import FinetuneConfig
from interp.finetune.training import train

__all__ = ["FinetuneConfig", "train"]
