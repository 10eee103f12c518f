"""The encoder's forward against the machine's own matrix rate, and against ViT-L/16.

    python benchmarks/encoder.py [--model NAME] [--device cuda] [--dtype float32] [--batch 2] [--no-compile]

Prints ratios measured in one run: the share of the matrix-product rate of the same number type that the
forward reaches at 512 and 256 pixels, and pictures a second relative to timm's ViT-L/16 at 224. Without a
model it is the paper's width without a decoder; a released model runs as it is loaded.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from tables import table
from timing import best_of, matrix_job, taken
from torch import Tensor, nn

import retina_fm
from retina_fm._vision import import_vision
from retina_fm.encoding.embedder import fastest_layout
from retina_fm.encoding.precision import choose_precision
from retina_fm.network import Architecture, Encoder, initialise


def flop_per_picture(encoder: Encoder, size: int) -> float:
    """Operations of the convolutions alone, the decoder's too; pooling and normalisation are overhead."""
    total = 0.0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        total_here = 2.0 * output.numel() * layer.weight[0].numel()
        nonlocal total
        total += total_here

    with torch.device("meta"):
        shadow = Encoder(encoder.architecture)
    handles = [m.register_forward_hook(count) for m in shadow.modules() if isinstance(m, nn.Conv2d)]
    maps = shadow.maps(torch.empty(1, 3, size, size, device="meta"))
    if shadow.lesion_decoder is not None:
        shadow.lesion_decoder(maps)
    for handle in handles:
        handle.remove()
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a name that retina_fm.load takes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--dtype", default="auto", help="auto (the fastest here), float32, bfloat16 or float16"
    )
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--skip-vit", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    precision = choose_precision(arguments.dtype, device)
    print(f"{precision}, batch {arguments.batch}, torch {torch.__version__}")

    if arguments.model:
        encoder: Encoder = retina_fm.load(arguments.model)
    else:
        encoder = Encoder(Architecture()).eval()
        initialise(encoder, 0)
    layout = fastest_layout(precision, device)
    encoder = encoder.to(device, precision.dtype).to(memory_format=layout)  # type: ignore[call-overload]
    matrix, matrix_flop = matrix_job(precision.dtype, device)
    jobs: dict[str, Callable[[], object]] = {"matrix": matrix}
    flop: dict[str, float] = {"matrix": matrix_flop}

    def add(name: str, call: Callable[[Tensor], object], size: int, operations: float) -> None:
        view = (torch.rand(arguments.batch, 3, size, size, device=device) * 2 - 1).to(precision.dtype)
        view = view.contiguous(memory_format=layout)
        with taken() as first:
            call(view)
        print(f"{name}: first call {first.seconds:.1f} s")
        jobs[name] = lambda: call(view)
        flop[name] = operations * arguments.batch

    with torch.inference_mode():
        for size in (512, 256):
            operations = flop_per_picture(encoder, size)
            add(f"encoder {size} eager", encoder.embed, size, operations)
            if not arguments.no_compile:
                compiled = torch.compile(encoder.embed, dynamic=False)
                add(f"encoder {size} compiled", compiled, size, operations)
        if not arguments.skip_vit:
            timm = import_vision("timm")
            vit = timm.create_model("vit_large_patch16_224", num_classes=0).eval().to(device, precision.dtype)
            if not arguments.no_compile:
                vit = torch.compile(vit, dynamic=False)
            add("ViT-L/16 224", vit, 224, 123.1e9)
        seconds = best_of(jobs, arguments.rounds)

    rate = flop["matrix"] / seconds["matrix"]
    print(f"matrix products: {rate / 1e9:.0f} GFLOP/s")
    rows = [
        (name, arguments.batch / seconds[name], flop[name] / seconds[name] / rate) for name in list(jobs)[1:]
    ]
    print(table(["", "pictures/s", "of the matrix rate"], rows))
    for name in seconds:
        if "ViT-L/16 224" in seconds and name.startswith("encoder"):
            times = seconds["ViT-L/16 224"] / seconds[name]
            print(f"{name} is {times:.2f} times as fast as ViT-L/16 at 224")


if __name__ == "__main__":
    main()
