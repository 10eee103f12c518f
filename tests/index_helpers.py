"""What the tests of indexes share: made vectors, a slow and obvious search, photos and a tiny model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from conftest import disc_picture

TINY = "fundus2video-tiny"


def made(count: int, width: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width), dtype=np.float32)


def sorted_by_score(
    queries: np.ndarray, vectors: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> list:
    """Everything sorted, in float64: by cosine, then by row."""
    unit = [
        x / np.maximum(np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True), 1e-30)
        for x in (queries, vectors)
    ]
    unit = [x.astype(np.float32).astype(np.float64) for x in unit]
    scores = (unit[0] @ unit[1].T).astype(np.float32)
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [[str(i) for i in row if scores[q, i] > -np.inf] for q, row in enumerate(order)]


def draw(folder: Path, names: list[str], seed: int = 0) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.fromarray(disc_picture(seed + number, 96)).save(folder / name)
    return [folder / name for name in names]


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with its size and time, to see that nothing was touched."""
    return {
        str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns)
        for p in folder.rglob("*") if p.is_file()
    }  # fmt: skip
