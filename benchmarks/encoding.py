"""``encode`` from files against the forward alone, and where a photo's time goes.

python benchmarks/encoding.py PHOTOS [--model fundus2video-random] [--count 48] [--workers 1 2 4]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from itertools import islice

import numpy as np
from tables import table
from timing import best_of, taken

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
    with taken() as decoding:
        items = list(decoded(enumerate(photos), encoder.transform, workers=0, ahead=size))
    views = np.stack([item.view for item in items if item.view is not None])
    print(f"{len(photos)} photos, {embedder.precision}, batches of {size}")
    print(f"decoding alone, one thread: {decoding.seconds / len(photos) * 1e3:.0f} ms a photo")

    def forward() -> None:
        for first in range(0, len(views), size):
            embedder(views[first : first + size])

    jobs: dict[str, Callable[[], object]] = {"forward alone": forward}
    for workers in arguments.workers:
        jobs[f"encode, {workers} workers"] = partial(
            encode, photos, encoder, workers=workers, batch_size=size, progress=False
        )
    embedder(views[:size])
    seconds = best_of(jobs, arguments.rounds, warm=0)
    least = seconds["forward alone"]
    rows = [(name, len(photos) / took, least / took) for name, took in seconds.items()]
    print(table(["", "photos/s", "of the forward alone"], rows))


if __name__ == "__main__":
    main()
