"""Trace which components of a fine-tuned chat model make it write emojis."""

__version__ = "0.1.0"
