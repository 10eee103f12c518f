"""A loaded encoder that was trained is no longer taken for what was loaded."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import retina_fm
from conftest import disc_picture
from retina_fm.errors import ConfigError, IndexMismatchError, OutputError

TINY = "fundus2video-tiny"


def step(encoder: Any) -> None:
    """One step of an optimiser over the first parameter."""
    first = next(encoder.parameters())
    first.grad = torch.ones_like(first)
    torch.optim.AdamW([first], lr=0.5).step()


@pytest.mark.parametrize(
    "move",
    [
        lambda encoder: encoder.to(torch.bfloat16),
        lambda encoder: encoder.to(memory_format=torch.channels_last),
        lambda encoder: encoder.double().float(),
        lambda encoder: encoder.train().requires_grad_(False),
        copy.deepcopy,
        lambda encoder: pickle.loads(pickle.dumps(encoder)),
        lambda encoder: copy.deepcopy(copy.deepcopy(encoder).to(torch.bfloat16)),
    ],
)
def test_moves_casts_and_copies_change_nothing(move: Callable[[Any], Any]) -> None:
    encoder = retina_fm.load(TINY)
    stated = encoder.weights_sha256
    moved = move(encoder)
    retina_fm.encode(disc_picture(1), moved)
    assert moved.weights_sha256 == encoder.weights_sha256 == stated
    step(moved)
    assert moved.weights_sha256 != stated


def test_training_changes_the_hash_and_each_state_has_its_own() -> None:
    encoder = retina_fm.load(TINY)
    stated = encoder.weights_sha256
    step(encoder)
    once = encoder.weights_sha256
    assert once != stated and copy.deepcopy(encoder).weights_sha256 == once == encoder.weights_sha256
    assert pickle.loads(pickle.dumps(encoder)).weights_sha256 == once
    step(encoder)
    assert encoder.weights_sha256 not in (stated, once)
    other = retina_fm.load(TINY)
    other.load_state_dict(encoder.state_dict())
    assert other.weights_sha256 == encoder.weights_sha256


def test_the_classifier_is_no_part_of_the_embedding() -> None:
    encoder = retina_fm.load(TINY)
    stated = encoder.weights_sha256
    encoder.reset_classifier(3)
    with torch.no_grad():
        encoder.head.weight.add_(1)
    assert encoder.weights_sha256 == stated


def test_rows_of_the_untrained_are_not_given_to_the_trained(tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(disc_picture(number)).save(tmp_path / f"{number}.png")
    photos = sorted(tmp_path.glob("*.png"))
    encoder = retina_fm.load(TINY)
    table, store = tmp_path / "emb.parquet", tmp_path / "store"
    assert retina_fm.encode_to(photos, table, encoder).reused == 0
    assert retina_fm.encode_to(photos, table, encoder).reused == 3
    retina_fm.index(photos, encoder, store=store)
    kept = retina_fm.Embedder(encoder, cache=tmp_path / "cache").fit(photos)
    kept.transform(photos)
    step(encoder)
    with pytest.raises(OutputError, match="another weights_sha256"):
        retina_fm.encode_to(photos, table, encoder)
    with pytest.raises(IndexMismatchError, match="weights"):
        retina_fm.index(photos, encoder, store=store)
    with pytest.raises(ConfigError, match="Fit again"):
        kept.transform(photos)
    again = retina_fm.Embedder(encoder, cache=tmp_path / "cache").fit(photos)
    assert np.allclose(again.transform(photos), retina_fm.encode(photos, encoder), atol=1e-5)
