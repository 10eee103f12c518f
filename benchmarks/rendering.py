"""Throughput of the angiogram simulator, on this machine, in one run.

python benchmarks/rendering.py [--device cpu] [--threads 1] [--seconds 8] [--json]

Prints sequences of 12 frames at 512 px a second, training samples at 256 px a second, drawn retinas and
prepared eyes a second, and samples loaded from paired videos on disk; on a CPU a second is one of processor
time, of all threads together. With --step-seconds (time of one training step a sample) it prints rendering's
share of it.
"""

from __future__ import annotations

import argparse
import json
import tempfile

import torch
from tables import table
from timing import rate

from retina_fm.training import RenderedSamples, draw_retina, prepare_drawn, render_batch, stack_eyes
from retina_fm.training.pairs.table import read_pairs
from retina_fm.training.pretraining.data.pair_samples import PairSamples
from retina_fm.training.simulator.simulate import simulate


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--batch", type=int, help="sequences at once (1 on a CPU, 16 elsewhere)")
    parser.add_argument(
        "--step-seconds", type=float, help="seconds of one training step a sample, to compare"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    batch = options.batch or (1 if device.type == "cpu" else 16)
    seeds = iter(range(10**6))

    def draw() -> int:
        draw_retina(next(seeds), 512)
        return 1

    figures = {"drawn retinas a second": rate(draw, options.seconds / 2, torch.device("cpu"))}
    retinas = [draw_retina(seed, 512) for seed in range(4)]
    turns = iter(range(10**6))

    def prepare() -> int:
        prepare_drawn(retinas[next(turns) % 4])
        return 1

    figures["prepared eyes a second"] = rate(prepare, options.seconds / 2, torch.device("cpu"))
    eyes = [prepare_drawn(retina) for retina in retinas]
    stacked = stack_eyes([eyes[i % 4] for i in range(batch)]).to(device)
    generator = torch.Generator().manual_seed(0)
    for name, painting in (("healthy", 0.0), ("painted", 1.0)):

        def sequences(painting: float = painting) -> int:
            render_batch(stacked, generator, painting=painting)
            return batch

        figures[f"sequences (12 x 512 px, {name}) a second"] = rate(sequences, options.seconds, device)
    stream = RenderedSamples(
        eyes, crop=256, batch=8 if device.type == "cpu" else 64, device=device, resident=True
    )

    def samples() -> int:
        return len(next(stream))

    figures["training samples (256 px) a second"] = rate(samples, options.seconds, device)
    with tempfile.TemporaryDirectory() as folder:
        simulate(folder, drawn=4, size=512, animate=False, workers=1, progress=False)
        pairs = PairSamples(read_pairs(folder), size=512, crop=256, batch=4)
        figures["samples from pairs on disk (256 px) a second"] = rate(
            lambda: len(next(pairs)), options.seconds, torch.device("cpu")
        )
    if options.step_seconds:
        share = 1 / figures["training samples (256 px) a second"] / options.step_seconds
        figures["rendering's share of a training step"] = share
    if options.json:
        print(json.dumps({"device": str(device), "threads": options.threads, **figures}, indent=2))
        return
    print(f"device {device}, {options.threads} threads")
    print(table(["", "figure"], figures.items()))


if __name__ == "__main__":
    main()
