"""A trained editor, on disk a folder of `editor.safetensors` and `editor.json`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError
from safetensors.torch import load_file, save

from interp.base.errors import AdapterError
from interp.base.files import read_json, sha256, write_bytes, write_json
from interp.base.results import from_fields
from interp.base.tensor_files import check_safetensors
from interp.methods.editing.mend.editor import EditorConfig, EditorNetwork
from interp.models.folders import check_inside


class _Content(BaseModel):
    """What `editor.json` holds beside format and config."""

    model_config = ConfigDict(strict=True)

    base_sha256: str
    topics: list[str]
    shapes: dict[str, Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]] = Field(
        min_length=1
    )


_FORMAT = "interp mend editor 1"
_WEIGHTS, _CONFIG = "editor.safetensors", "editor.json"


@dataclass(frozen=True, eq=False)
class Editor:
    """An editor for one base.

    Attributes:
        network: makes edits of gradients.
        config: how it was trained.
        base_sha256: of the base that it was trained on.
        topics: keys of the topics that it was trained on, validation included.
    """

    network: EditorNetwork
    config: EditorConfig
    base_sha256: str
    topics: tuple[str, ...]

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the modules whose weights it edits."""
        return tuple(self.network.names)

    def save(self, folder: Path | str) -> Path:
        """Write the editor; the config, which names the weights' hash, comes last."""
        folder = Path(folder)
        tensors = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.network.state_dict().items()
        }
        weights = write_bytes(folder / _WEIGHTS, save(tensors))
        content = {
            "format": _FORMAT,
            "base_sha256": self.base_sha256,
            "weights_sha256": sha256(weights),
            "shapes": {name: list(shape) for name, shape in self.network.shapes.items()},
            "config": self.config.to_dict(),
            "topics": list(self.topics),
        }
        write_json(folder / _CONFIG, content)
        return folder

    @classmethod
    def load(cls, folder: Path | str, *, device: torch.device | str = "cpu") -> "Editor":
        """Read an editor back.

        Raises:
            AdapterError: if the folder holds none, or it is damaged.
        """
        folder = Path(folder)
        content = read_json(check_inside(folder / _CONFIG, AdapterError), AdapterError)
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise AdapterError(f"{folder / _CONFIG}: is no MEND editor's config")
        check_safetensors(check_inside(folder / _WEIGHTS, AdapterError), AdapterError)
        if sha256(folder / _WEIGHTS) != content.get("weights_sha256"):
            raise AdapterError(
                f"{folder / _WEIGHTS}: is not the file that {_CONFIG} names; save the editor again"
            )
        config, shapes = _parsed(folder, content)
        _check_sizes(folder, config, shapes)
        network = EditorNetwork(shapes, config)
        try:
            network.load_state_dict(load_file(folder / _WEIGHTS))
        except RuntimeError as problem:
            first = str(problem).splitlines()[-1].strip()
            raise AdapterError(f"{folder}: weights and config do not fit ({first})") from None
        network = network.to(device).eval().requires_grad_(False)
        if not all(torch.isfinite(tensor).all() for tensor in network.state_dict().values()):
            raise AdapterError(f"{folder / _WEIGHTS}: holds NaN or infinity; train it again")
        return cls(network, config, content["base_sha256"], tuple(content["topics"]))


def _parsed(
    folder: Path, content: dict[str, Any]
) -> tuple[EditorConfig, dict[str, tuple[int, int]]]:
    where = folder / _CONFIG
    config = from_fields(EditorConfig, content.get("config"), f"{where}: config", AdapterError)
    try:
        found = _Content.model_validate(content)
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise AdapterError(f"{where}: malformed ({field}: {first['msg']})") from None
    return config, {name: (a, b) for name, (a, b) in found.shapes.items()}


def _check_sizes(folder: Path, config: EditorConfig, shapes: dict[str, tuple[int, int]]) -> None:
    """Refuse sizes that the weight file cannot hold, before a network of these sizes is made."""
    held = len(check_safetensors(folder / _WEIGHTS, AdapterError))
    size = (folder / _WEIGHTS).stat().st_size
    largest = max(sum(shape) for shape in shapes.values())
    if config.hidden > held or len(shapes) > held or config.rank * largest > size:
        raise AdapterError(f"{folder}: weights and config do not fit; save the editor again")
