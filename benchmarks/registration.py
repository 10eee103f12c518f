"""How well frames find their photo: moved by a known amount, and offered another eye's photo.

    python benchmarks/registration.py --pairs PAIRS [--limit 20] [--out FILE]

Of each photo's first sequence an early, a venous and a late frame are turned by up to 5 degrees, scaled by
up to 5 % and shifted by up to 4 % of the side. Errors are the largest of nine points in the middle three
fifths, in thousandths of the photo's side; the stranger is the next photo's frame.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from adapters_common import written
from numpy.typing import NDArray
from scipy import ndimage

from retina_fm.pictures import read_picture
from retina_fm.training.pairs.registration import ACCEPT, register_frame
from retina_fm.training.pairs.table import choose_frames, read_pairs
from retina_fm.vocabulary import PHASES

NUMBERS = (2, 6, 10)  # of the twelve frames, one a phase


@dataclass(frozen=True)
class _Moved:
    """A frame that was moved, and where its pixels (y, x), centres at half-integers, came from."""

    frame: NDArray[np.uint8]
    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]

    def origin(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((points - 0.5) @ self.matrix.T + self.offset + 0.5)


def moved(frame: NDArray[np.uint8], random: np.random.Generator) -> _Moved:
    side = max(frame.shape)
    turn, grow = random.uniform(-1, 1) * np.deg2rad(5), np.exp(random.uniform(-0.05, 0.05))
    matrix = grow * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = (np.array(frame.shape) - 1) / 2
    offset = middle - matrix @ middle + random.uniform(-0.04, 0.04, 2) * side
    changed = ndimage.affine_transform(frame.astype(np.float32), matrix, offset, order=1)
    return _Moved(changed.clip(0, 255).astype(np.uint8), matrix, offset)


def error(transform: tuple[float, ...], truth: _Moved) -> float:
    """Largest distance between where points lie and where they were put, in thousandths of the side."""
    side = max(truth.frame.shape)
    grid = np.array([(y, x) for y in (0.2, 0.5, 0.8) for x in (0.2, 0.5, 0.8)]) * side
    a, b, c, d, e, f = transform
    found = np.stack([d * grid[:, 1] + e * grid[:, 0] + f, a * grid[:, 1] + b * grid[:, 0] + c], 1)
    return float(np.hypot(*(found - truth.origin(grid)).T).max() / side * 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=20, help="photos")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    sequences = [s for s in read_pairs(arguments.pairs) if s.name.endswith("-0")][: arguments.limit]
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for k, sequence in enumerate(sequences):
        photo = read_picture(sequence.photo)
        others = choose_frames(sequences[(k + 1) % len(sequences)])
        for phase, number in zip(PHASES, NUMBERS, strict=True):
            truth = moved(read_picture(choose_frames(sequence)[number].path)[..., 0], random)
            start = time.perf_counter()
            found = register_frame(photo, truth.frame)
            seconds = time.perf_counter() - start
            stranger = register_frame(photo, read_picture(others[number].path)[..., 0])
            row = {"phase": phase, "quality": found.quality, "error": error(found.transform, truth)}
            rows.append({**row, "stranger": stranger.quality, "seconds": seconds})
    for phase in PHASES:
        of_it = [row for row in rows if row["phase"] == phase]
        good = [row["error"] for row in of_it if row["quality"] >= ACCEPT]
        lost = [row["error"] for row in of_it if row["quality"] < ACCEPT]
        shown = [f"{np.median(part):.1f}, {max(part):.1f}" if part else "-" for part in (good, lost)]
        strangers = sum(row["stranger"] >= ACCEPT for row in of_it)
        highest = max(row["stranger"] for row in of_it)
        print(f"| {phase} | {len(good)} of {len(of_it)} | {shown[0]} | {shown[1]} | ", end="")
        print(f"{strangers} of {len(of_it)}, {highest:.2f} |")
    print(f"{np.mean([row['seconds'] for row in rows]):.1f} s a frame")
    if arguments.out:
        written(arguments.out, {"pairs": arguments.pairs.name, "accept": ACCEPT, "rows": rows})


if __name__ == "__main__":
    main()
