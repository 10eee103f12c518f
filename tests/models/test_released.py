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
import torch

import retina_fm
from retina_fm.errors import WeightsError
from retina_fm.models import load_generator
from retina_fm.network.architecture import ANATOMY
from retina_fm.training.simulator.anatomy.drawn import draw_retina

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "weights"
FOLDER = WEIGHTS / "fundus2video"
GOLDEN = Path(__file__).with_name("golden_embeddings.npz")
NAMES = ("fundus2video", "fundus2video-half")
TOLERANCE = 2e-3
"""Largest distance of an embedding from its golden one, as a share of the golden one's length, in float32:
rounding differs between processors and releases of PyTorch by about 1e-4."""


def photo_of(seed: int) -> np.ndarray:
    """A drawn photograph."""
    return draw_retina(seed, 256).photo


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "numbers", [(0, 7), pytest.param(tuple(range(10)), marks=pytest.mark.slow)], ids=["two", "ten"]
)
def test_drawn_photographs_have_their_golden_embeddings(numbers: tuple[int, ...], name: str) -> None:
    golden = np.load(GOLDEN)[name]
    drawn = [photo_of(number) for number in numbers]
    found = retina_fm.encode(drawn, name, dtype="float32", progress=False)
    wanted = golden[list(numbers)]
    assert found.shape == wanted.shape
    off = np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    assert off.max() < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_golden_embeddings_differ(name: str) -> None:
    golden = np.load(GOLDEN)[name]
    apart = np.linalg.norm(golden[:, None] - golden[None], axis=2)[np.triu_indices(10, 1)]
    assert apart.min() > 20 * TOLERANCE * np.linalg.norm(golden, axis=1).max(), "the photographs differ"


@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_what_the_weights_may_be_used_for_and_saw(name: str) -> None:
    encoder = retina_fm.load(name)
    sets = ("HRF", "IDRiD", "RFMiD", "toxoplasmosis", "GRAPE", "HYGD", "drawn")
    assert encoder.card.licence == "CC-BY-4.0" and not encoder.card.restricted
    assert all(one in encoder.card.training_data for one in sets)
    text = (WEIGHTS / name / "sources.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if not row["photo"].startswith("drawn:")]
    assert len(rows) > 400 and all(len(row["sha256"]) == 64 for row in rows)
    assert len({row["sha256"] for row in rows}) == len(rows), "no photograph twice"


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_is_small_enough_to_ship_and_generates(name: str) -> None:
    sizes = [path.stat().st_size for path in (WEIGHTS / name).glob("*.safetensors")]
    assert max(sizes) <= 16_000_000 and sum(sizes) < 150e6
    generator = load_generator(name)
    said = json.loads((WEIGHTS / name / "config.json").read_text())["network"]
    assert generator.architecture.width == said["width"]


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_map_vessels_and_anatomy(name: str) -> None:
    encoder = retina_fm.load(name)
    assert encoder.sees_vessels and encoder.architecture.anatomy == ANATOMY
    drawn = draw_retina(3, 256)
    view, geometry = encoder.transform(drawn.photo, return_geometry=True)
    with torch.inference_mode():
        seen = encoder.vessels(encoder.maps(view))[0, 0].numpy()
    true = geometry.view_of(np.maximum(drawn.arteries, drawn.veins), "area")
    inside = geometry.mask_in_view()
    assert seen[inside & (true > 0.7)].mean() > 4 * seen[inside & (true < 0.05)].mean()


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
    golden = {name: retina_fm.encode(ten, name, dtype="float32", progress=False) for name in NAMES}
    np.savez_compressed(GOLDEN, **golden)
