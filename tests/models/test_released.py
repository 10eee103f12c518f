"""The released weights: what they are, what they give, and that a changed byte is refused.

``python tests/models/test_released.py`` writes the golden embeddings anew, after new weights.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import retina_fm
from retina_fm.errors import WeightsError
from retina_fm.models import load_generator
from retina_fm.training.simulator.anatomy.drawn import draw_retina

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "weights" / "fundus2video"
GOLDEN = Path(__file__).with_name("golden_embeddings.npz")
TOLERANCE = 2e-3
"""Largest distance of an embedding from its golden one, as a share of the golden one's length, in float32:
rounding differs between processors and releases of PyTorch by about 1e-4."""


def photo_of(seed: int) -> np.ndarray:
    """A drawn photograph."""
    return draw_retina(seed, 256).photo


@pytest.mark.parametrize(
    "numbers", [(0, 7), pytest.param(tuple(range(10)), marks=pytest.mark.slow)], ids=["two", "ten"]
)
def test_drawn_photographs_have_their_golden_embeddings(numbers: tuple[int, ...]) -> None:
    golden = np.load(GOLDEN)["embeddings"]
    drawn = [photo_of(number) for number in numbers]
    found = retina_fm.encode(drawn, "fundus2video", dtype="float32", progress=False)
    wanted = golden[list(numbers)]
    assert found.shape == wanted.shape
    off = np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    assert off.max() < TOLERANCE


def test_golden_embeddings_differ() -> None:
    golden = np.load(GOLDEN)["embeddings"]
    apart = np.linalg.norm(golden[:, None] - golden[None], axis=2)[np.triu_indices(10, 1)]
    assert apart.min() > 20 * TOLERANCE * np.linalg.norm(golden, axis=1).max(), "the photographs differ"


def test_the_card_says_what_the_weights_may_be_used_for_and_saw() -> None:
    encoder = retina_fm.load("fundus2video")
    assert encoder.card.licence == "CC-BY-4.0" and not encoder.card.restricted
    for name in ("HRF", "IDRiD"):
        assert name in encoder.card.training_data
    rows = list(csv.DictReader((FOLDER / "sources.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) > 400 and all(len(row["sha256"]) == 64 for row in rows)
    assert len({row["sha256"] for row in rows}) == len(rows), "no photograph twice"


def test_the_folder_is_small_enough_to_ship_and_generates() -> None:
    sizes = [path.stat().st_size for path in FOLDER.glob("*.safetensors")]
    assert max(sizes) <= 16_000_000 and sum(sizes) < 150e6
    generator = load_generator("fundus2video")
    assert (
        generator.architecture.width == json.loads((FOLDER / "config.json").read_text())["network"]["width"]
    )


def test_a_flipped_byte_is_refused_before_parsing(tmp_path: Path) -> None:
    copy = tmp_path / "fundus2video"
    shutil.copytree(FOLDER, copy)
    shard = sorted(copy.glob("model-*.safetensors"))[0]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(WeightsError, match="changed or damaged"):
        retina_fm.load(str(copy))


if __name__ == "__main__":
    ten = [photo_of(seed) for seed in range(10)]
    embeddings = retina_fm.encode(ten, "fundus2video", dtype="float32", progress=False)
    np.savez_compressed(GOLDEN, embeddings=embeddings)
