"""What a signature costs beside the encoder's own time, in one run on one core.

``python benchmarks/signatures_time.py MODEL [--dtype float32] [--rounds 3]``

Prints processor seconds a picture of the embedding alone, of the signature alone (with a map of its own where
the basis needs the network) and of both from one pass: the least of some rounds, for four drawn eyes and for
their angiograms.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from retina_fm.encoding.embedder import Embedder
from retina_fm.encoding.work import Decoded, decode
from retina_fm.signatures import inverted
from retina_fm.training.simulator.anatomy.drawn import draw_retina


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    embedder = Embedder(arguments.model, dtype=arguments.dtype)
    photos = [draw_retina(seed, 512, lesions={}).photo for seed in range(4)]
    grey = [np.repeat(inverted(photo)[:, :, 1:2], 3, axis=2) for photo in photos]
    figures: dict[str, Any] = {"model": embedder.encoder.name, "dtype": str(embedder.precision.dtype)}
    for name, pictures in (("photographs", photos), ("angiograms", grey)):
        items = [
            decode(number, picture, embedder.encoder.transform) for number, picture in enumerate(pictures)
        ]
        views = np.stack([item.view for item in items if item.view is not None])
        figures[name] = measured(embedder, items, views, arguments.rounds)
    print(json.dumps(figures, indent=1))


def measured(embedder: Embedder, items: list[Decoded], views: np.ndarray, rounds: int) -> dict[str, float]:
    """Least processor seconds a picture of each way, taken in turns."""
    ways: dict[str, Callable[[], Any]] = {
        "embedding": lambda: embedder(views),
        "signature": lambda: embedder.encoder.sign(views),
        "both": lambda: embedder.both(items),
    }
    least = dict.fromkeys(ways, np.inf)
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            way()
            least[name] = min(least[name], (time.process_time() - started) / len(views))
    return {**least, "signature / embedding": least["signature"] / least["embedding"]}


if __name__ == "__main__":
    main()
