"""Run folders: what a study was asked and what it found, in whole files."""

from interp.runs.folder import MANIFEST, RunFolder

__all__ = ["MANIFEST", "RunFolder"]
