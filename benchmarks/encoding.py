"""``encode`` from files against the forward alone, and where a photo's time goes.

python benchmarks/encoding.py PHOTOS [--model fundus2video-random] [--count 48] [--workers 1 2 4]
"""

from __future__ import annotations

import argparse
import time
from itertools import islice

import numpy as np

from retina_fm.encoding import encode
from retina_fm.encoding.decoding import decoded
from retina_fm.encoding.embedder import Embedder
from retina_fm.pictures import expand


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--model", default="fundus2video-random")
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    photos = list(islice(expand(arguments.photos), arguments.count))
    embedder = Embedder(arguments.model)
    encoder, size = embedder.encoder, embedder.batch_size
    started = time.perf_counter()
    items = list(decoded(enumerate(photos), encoder.transform, workers=0, ahead=size))
    decoding = time.perf_counter() - started
    views = np.stack([item.view for item in items if item.view is not None])
    print(f"{len(photos)} photos, {embedder.precision}, batches of {size}")
    print(f"decoding alone, one thread: {decoding / len(photos) * 1e3:.0f} ms a photo")
    forward = float("inf")
    whole = dict.fromkeys(arguments.workers, float("inf"))
    embedder(views[:size])
    for _ in range(arguments.rounds):
        started = time.perf_counter()
        for first in range(0, len(views), size):
            embedder(views[first : first + size])
        forward = min(forward, time.perf_counter() - started)
        for workers in arguments.workers:
            started = time.perf_counter()
            encode(photos, encoder, workers=workers, batch_size=size, progress=False)
            whole[workers] = min(whole[workers], time.perf_counter() - started)
    print(f"forward alone: {len(photos) / forward:.2f} photos/s")
    for workers, seconds in whole.items():
        rate = len(photos) / seconds
        print(f"encode, {workers} workers: {rate:.2f} photos/s, {forward / seconds:.2f} of the forward alone")


if __name__ == "__main__":
    main()
