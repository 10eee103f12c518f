"""How well frames find their photo: moved by a known amount, or real; and offered another eye's photo.

    python benchmarks/registration.py --pairs PAIRS [--limit 20] [--far] [--search ours log-polar]
    python benchmarks/registration.py --real FOLDER [--search ours log-polar]

Of each photo's first sequence an early, a venous and a late frame are turned by up to 5 degrees, scaled by
up to 5 % and shifted by up to 4 % of the side; with --far by up to 20 degrees, 15 % and 12 %. Errors are the
largest of nine points in the middle three fifths, in thousandths of the photo's side; the stranger is the
next photo's frame.

Real pairs are named in FOLDER/labels.csv: path, patient_id, modality (colour or ffa), pair. How they lie is
not known; what is said is their quality, and that of the next patient's angiogram on the same photo.

--search also takes ways that the library does not use: see registration_searches.py (extra ``train``).
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from registration_searches import SEARCHES
from scipy import ndimage
from tables import written

from retina_fm.pictures import read_picture
from retina_fm.training.pairs.registration import ACCEPT
from retina_fm.training.pairs.table import choose_frames, read_pairs
from retina_fm.vocabulary import PHASES

NUMBERS = (2, 6, 10)  # of the twelve frames, one a phase
NEAR, FAR = (5.0, 0.05, 0.04), (20.0, 0.15, 0.12)  # degrees, log scale, share of the side
Row = dict[str, Any]


@dataclass(frozen=True)
class _Moved:
    """A frame that was moved, and where its pixels (y, x), centres at half-integers, came from."""

    frame: NDArray[np.uint8]
    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]

    def origin(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((points - 0.5) @ self.matrix.T + self.offset + 0.5)


def moved(
    frame: NDArray[np.uint8], random: np.random.Generator, most: tuple[float, float, float] = NEAR
) -> _Moved:
    side, (degrees, log_scale, share) = max(frame.shape), most
    turn = random.uniform(-1, 1) * np.deg2rad(degrees)
    grow = np.exp(random.uniform(-log_scale, log_scale))
    matrix = grow * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = (np.array(frame.shape) - 1) / 2
    offset = middle - matrix @ middle + random.uniform(-share, share, 2) * side
    changed = ndimage.affine_transform(frame.astype(np.float32), matrix, offset, order=1)
    return _Moved(changed.clip(0, 255).astype(np.uint8), matrix, offset)


def error(transform: tuple[float, ...], truth: _Moved) -> float:
    """Largest distance between where points lie and where they were put, in thousandths of the side."""
    side = max(truth.frame.shape)
    grid = np.array([(y, x) for y in (0.2, 0.5, 0.8) for x in (0.2, 0.5, 0.8)]) * side
    a, b, c, d, e, f = transform
    found = np.stack([d * grid[:, 1] + e * grid[:, 0] + f, a * grid[:, 1] + b * grid[:, 0] + c], 1)
    return float(np.hypot(*(found - truth.origin(grid)).T).max() / side * 1000)


def of_pairs(pairs: Path, limit: int, far: bool, searches: Sequence[str]) -> list[Row]:
    sequences = [s for s in read_pairs(pairs) if s.name.endswith("-0")][:limit]
    random = np.random.default_rng(0)
    rows: list[Row] = []
    for k, sequence in enumerate(sequences):
        photo = read_picture(sequence.photo)
        others = choose_frames(sequences[(k + 1) % len(sequences)])
        for phase, number in zip(PHASES, NUMBERS, strict=True):
            frame = read_picture(choose_frames(sequence)[number].path)[..., 0]
            truth = moved(frame, random, FAR if far else NEAR)
            other = read_picture(others[number].path)[..., 0]
            for name in searches:
                start = time.process_time()
                found = SEARCHES[name](photo, truth.frame)
                seconds = time.process_time() - start
                stranger = SEARCHES[name](photo, other)
                row = {"search": name, "phase": phase, "quality": found.quality, "seconds": seconds}
                rows.append({**row, "error": error(found.transform, truth), "stranger": stranger.quality})
    return rows


def of_real(folder: Path, searches: Sequence[str]) -> list[Row]:
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        labels = list(csv.DictReader(file))
    photos = [row for row in labels if row["modality"] == "colour"]
    frames = {row["pair"]: row for row in labels if row["modality"] == "ffa"}
    rows: list[Row] = []
    for k, row in enumerate(photos):
        photo = read_picture(folder / row["path"])
        following = [*photos[k:], *photos[:k]]
        other = next(one for one in following if one["patient_id"] != row["patient_id"])
        grey = [
            read_picture(folder / frames[pair]["path"]).mean(2).astype(np.uint8)
            for pair in (row["pair"], other["pair"])
        ]
        for name in searches:
            start = time.process_time()
            found = SEARCHES[name](photo, grey[0])
            seconds = time.process_time() - start
            stranger = SEARCHES[name](photo, grey[1])
            known = {"search": name, "pair": row["pair"], "transform": found.transform, "seconds": seconds}
            rows.append({**known, "quality": found.quality, "stranger": stranger.quality})
    return rows


def told(start: str, rows: list[Row]) -> str:
    """A line of a table: accepted, errors where they are known, strangers."""
    good = [row for row in rows if row["quality"] >= ACCEPT]
    lost = [row for row in rows if row["quality"] < ACCEPT]
    cells = [start, f"{len(good)} of {len(rows)}"]
    if "error" in rows[0]:
        parts = [[row["error"] for row in some] for some in (good, lost)]
        cells += [f"{np.median(part):.1f}, {max(part):.1f}" if part else "-" for part in parts]
    else:
        cells.append(" ".join(f"{row['quality']:.2f}" for row in rows))
    strangers = [row["stranger"] for row in rows]
    cells.append(f"{sum(one >= ACCEPT for one in strangers)} of {len(rows)}, {max(strangers):.2f}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--pairs", type=Path)
    source.add_argument("--real", type=Path)
    parser.add_argument("--limit", type=int, default=20, help="photos of --pairs")
    parser.add_argument("--far", action="store_true", help="move frames of --pairs further")
    parser.add_argument("--search", nargs="+", default=["ours"], choices=list(SEARCHES))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.pairs:
        rows = of_pairs(arguments.pairs, arguments.limit, arguments.far, arguments.search)
    else:
        rows = of_real(arguments.real, arguments.search)
    for name in arguments.search:
        mine = [row for row in rows if row["search"] == name]
        for phase in PHASES if arguments.pairs else ():
            print(told(f"{name}, {phase}", [row for row in mine if row["phase"] == phase]))
        if arguments.real:
            print(told(name, mine))
        print(f"{name}: {np.mean([row['seconds'] for row in mine]):.1f} s of one core a frame")
    if arguments.out:
        data = (arguments.pairs or arguments.real).name
        written(arguments.out, {"data": data, "far": arguments.far, "accept": ACCEPT, "rows": rows})


if __name__ == "__main__":
    main()
