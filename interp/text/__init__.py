"""Emojis and data as text and tokens: no model in sight."""
