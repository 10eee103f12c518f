"""Drawn eyes whose classes and masks are plain to see, and a second tiny encoder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import disc_picture
from retina_fm._io.strict_json import read_json
from retina_fm.models import resolve

TINY = "fundus2video-tiny"


def eye(seed: int, kind: str = "plain") -> np.ndarray:
    """A drawn eye of 96 pixels; ``bright`` ones carry a white disc, ``tinted`` ones are bluish."""
    picture = disc_picture(seed, 96).astype(np.float32)
    lit = picture.any(2)
    if kind == "tinted":
        picture[lit] = picture[lit] * (0.4, 0.6, 1.0) + (0, 20, 60)
    if kind == "bright":
        picture[spot(seed) > 0] = 250
    return picture.clip(0, 255).astype(np.uint8)


def spot(seed: int) -> np.ndarray:
    """Mask ``uint8 (96, 96)`` with a disc of 255 somewhere."""
    random = np.random.default_rng(seed)
    y, x = 30 + 36 * random.random(2)
    rows, columns = np.mgrid[:96, :96] + 0.5
    return np.where(np.hypot(rows - y, columns - x) < 12, 255, 0).astype(np.uint8)


@pytest.fixture(scope="session")
def eyes() -> tuple[list[np.ndarray], np.ndarray]:
    """Twenty eyes and their classes, ``plain`` and ``tinted``, by turns."""
    kinds = np.array(["plain", "tinted"] * 10)
    return [eye(seed, kind) for seed, kind in enumerate(kinds)], kinds


@pytest.fixture(scope="session")
def spots() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Six eyes with a white disc, and its masks."""
    return [eye(seed, "bright") for seed in range(6)], [spot(seed) for seed in range(6)]


@pytest.fixture(scope="session")
def other_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with another seed, under a licence that asks for more."""
    folder = tmp_path_factory.mktemp("models") / "other-tiny"
    source = resolve(TINY)
    shutil.copytree(source, folder)
    config = read_json(folder / "config.json")
    config.update(name="other-tiny", seed=7)
    config["card"]["licence"] = "CC-BY-NC-4.0"
    (folder / "config.json").write_text(json.dumps(config))
    return folder
