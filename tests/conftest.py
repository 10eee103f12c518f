"""Fixtures shared by all tests: drawn pictures, small weights, real photographs where they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from retina_fm.learning import seeded
from retina_fm.models import ModelCard, WeightsConfig, save_folder
from retina_fm.network import Architecture, Generator
from retina_fm.network.encoder import Encoder
from retina_fm.pictures import Transform

# Arrays of tests are small: threads that share one wait for each other, and spin while they wait, which on a
# busy machine costs thirty times the work. What runs in parallel are whole test files.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs, where the environment names one."""
    folder = os.environ.get("RETINA_FM_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RETINA_FM_TEST_DATA names no folder of real photographs")
    return Path(folder)


@pytest.fixture(scope="session")
def generator_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny generator with random weights: it has everything that a trained one has."""
    return saved_generator(tmp_path_factory.mktemp("generator") / "tiny-generator")


def saved_generator(folder: Path, size: int = 64, **shape: Any) -> Path:
    """A weights folder of a tiny generator with random weights."""
    architecture = Architecture(width=4, encoder_blocks=1, embedding=16, lesion_decoder=True, **shape)
    with seeded(0):
        generator = Generator(architecture)
    pooling = Encoder(architecture).pooling.state_dict()
    config = WeightsConfig(
        name=folder.name,
        kind="fundus2video",
        transform=Transform(size=size),
        card=ModelCard(licence="Apache-2.0", training_data="none"),
        network=architecture.model_dump(mode="json"),
    )
    tensors = {**generator.state_dict(), **{f"pooling.{key}": value for key, value in pooling.items()}}
    save_folder(folder, config, tensors)
    return folder


def disc_picture(seed: int = 0, size: int = 128) -> np.ndarray:
    """A coloured disc with some structure on black: enough for code that never judges a retina."""
    random = np.random.Generator(np.random.PCG64(seed))
    coarse = random.integers(60, 220, (8, 8, 3), dtype=np.uint8)
    picture = np.array(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
    rows, columns = np.mgrid[:size, :size] + 0.5
    picture[np.hypot(rows - size / 2, columns - size / 2) > 0.46 * size] = 0
    return picture


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """Eleven photos in a folder, with a subfolder and numbers that sort naturally."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for number in range(1, 12):
        below = folder / "deep" if number > 9 else folder
        Image.fromarray(disc_picture(number)).save(below / f"eye{number}.png")
    return folder
