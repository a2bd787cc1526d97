"""The package's reading of dictionaries against sae-lens itself, in an environment of its own.

    pip install --no-deps --target ../saelens sae-lens==6.54.0 transformer-lens==3.9.0 \
        simple-parsing docstring-parser python-dotenv tenacity plotly plotly-express better-abc \
        nltk babe
    python benchmarks/dictionaries.py --sae-lens ../saelens

sae-lens 6.54 asks for transformer-lens below 4, and this package for 4.3, so the two cannot be
imported into one process. What sae-lens needs beside lies in that folder (106 MB; torch,
transformers and the rest are those of this environment, so nothing large is fetched), which a
process of its own puts first on its path. That process makes an SAE of every architecture with
random weights, every way of normalising and both ways with the decoder's bias, saves each with
`save_model`, and encodes, decodes and reconstructs random activations. Here the same folders are
read; the table has the largest differences. Then dictionaries that `interp.dictionaries.train`
made are saved here and read there. Under a minute on one core.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from interp.dictionaries import read_dictionary, save_dictionary, train

ROWS, D_IN, D_SAE, D_OUT = 200, 48, 160, 40

THERE = """
import sys, json, itertools, pathlib
import torch
from safetensors.torch import save_file
import sae_lens
from sae_lens import SAE
from sae_lens.registry import SAE_CLASS_REGISTRY

root, rows, d_in, d_sae, d_out = pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:])
draw = torch.Generator().manual_seed(0)

def asked(folder, sae):
    x = torch.randn(rows, sae.cfg.d_in, generator=draw) * 3 + 0.5
    with torch.no_grad():
        latents = sae.encode(x)
        found = {"x": x, "latents": latents, "out": sae(x)}
    save_file({name: one.contiguous() for name, one in found.items()}, folder / "there.safetensors")

made = {
    "standard": {}, "gated": {}, "jumprelu": {}, "topk": {"k": 20},
    "transcoder": {"d_out": d_out}, "skip_transcoder": {"d_out": d_out},
    "jumprelu_transcoder": {"d_out": d_out}, "jumprelu_skip_transcoder": {"d_out": d_out},
}
for kind, more in made.items():
    across = "transcoder" in kind
    ways = itertools.product(
        ("none", "layer_norm", "constant_norm_rescale"), (False,) if across else (True, False),
        (False, True) if kind == "topk" else (False,),
    )
    for norm, centred, rescale in ways:
        cls, cfg = SAE_CLASS_REGISTRY[kind]
        if kind == "topk":
            more = more | {"rescale_acts_by_decoder_norm": rescale}
        one = cfg(d_in=d_in, d_sae=d_sae, normalize_activations=norm,
                  apply_b_dec_to_input=centred, **more)
        one.metadata.hook_name, one.metadata.hook_name_out = "blocks.0.a", "blocks.0.b"
        sae = cls(one)
        with torch.no_grad():
            for name, weight in sae.named_parameters():
                weight.copy_(torch.randn(weight.shape, generator=draw) / weight.shape[0] ** 0.5)
                if name == "threshold":
                    weight.abs_().mul_(10)
        folder = root / f"{kind} {norm} centred={centred} rescale={rescale}"
        sae.save_model(folder)
        asked(folder, SAE.load_from_disk(folder))
for folder in sorted(root.glob("trained*")):
    asked(folder, SAE.load_from_disk(folder))
print(sae_lens.__version__)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sae-lens", required=True, help="folder that pip installed it into")
    place = Path(parser.parse_args().sae_lens).absolute()
    x = torch.randn(400, D_IN, generator=torch.Generator().manual_seed(1))
    few = {"hook": "blocks.0.a", "latents": 64, "steps": 200}
    with tempfile.TemporaryDirectory() as kept:
        root = Path(kept)
        save_dictionary(train(x, **few), root / "trained autoencoder")
        two = train(x, x[:, :D_OUT].relu(), hook_out="blocks.0.b", **few)
        save_dictionary(two, root / "trained transcoder")
        sizes = [str(size) for size in (ROWS, D_IN, D_SAE, D_OUT)]
        first = {"PYTHONPATH": str(place)}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", THERE, str(root), *sizes],
            env=os.environ | first, check=True, capture_output=True, text=True, cwd=root,
        )  # fmt: skip
        print(
            f"sae-lens {done.stdout.split()[-1]}, {ROWS} activations, float32; largest differences"
        )
        print("| architecture | folders | latents | as a share of the largest | reconstruction | "
              "fire in one only |\n|---|---|---|---|---|---|")  # fmt: skip
        found: dict[str, list[list[float]]] = {}
        for folder in sorted(root.iterdir()):
            kind = folder.name if folder.name.startswith("trained") else folder.name.split()[0]
            found.setdefault(kind, []).append(compared(folder))
        for kind, every in found.items():
            most = [max(column) for column in zip(*every, strict=True)]
            print(f"| {kind} | {len(every)} | " + " | ".join(f"{v:.1e}" for v in most[:3])
                  + f" | {int(most[3])} |")  # fmt: skip


def compared(folder: Path) -> list[float]:
    """Largest differences of latents (also as a share of the largest latent) and of what they
    reconstruct, and how many latents fire in one of the two only."""
    there = load_file(folder / "there.safetensors")
    held = read_dictionary(folder)
    latents = held.encode(there["x"])
    out = held.decode(latents, there["x"])
    apart = (latents - there["latents"]).abs()
    return [
        float(apart.max()), float(apart.max() / there["latents"].max()),
        float((out - there["out"]).abs().max()),
        float(((latents > 0) != (there["latents"] > 0)).sum()),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
