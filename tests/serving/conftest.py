"""One tiny engine and one server for all tests of this room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from index_helpers import draw
from served import Served, serving

import retina_fm
from conftest import saved_generator
from retina_fm.learning import seeded
from retina_fm.network.architecture import ANATOMY
from retina_fm.serving.engine import Engine
from retina_fm.serving.limits import Limits

LIMITS = Limits(
    body_bytes=200_000, pixels=160 * 160, body_seconds=0.5, answer_seconds=20.0, in_flight=4, neighbours=5
)


@pytest.fixture(scope="session")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, eight photos, an index of six of them, and an adapter."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    pytest.importorskip("prometheus_client")
    root = tmp_path_factory.mktemp("clinic")
    encoder: Any = retina_fm.load(str(saved_generator(root / "raw", vessels=True, anatomy=ANATOMY)))
    with seeded(0):
        encoder.pooling.projection.normal_()  # it is all zeros before it is fitted
    model = str(root / "tiny-anatomy")
    encoder.save_pretrained(model, name="tiny-anatomy", licence="Apache-2.0", training_data="none")
    photos = draw(root / "photos", [f"eye{number}.png" for number in range(8)])
    retina_fm.index(
        photos[:6],
        model,
        store=root / "store",
        metadata={"path": [str(path) for path in photos[:6]], "eye": ["left", "right"] * 3},
        progress=False,
    )
    adapter = retina_fm.adapt("classification", model=model, head="nearest-mean", progress=False)
    adapter.fit(photos[:4], ["healthy", "ill", "healthy", "ill"]).save(root / "adapter")
    return root


@pytest.fixture(scope="session")
def engine(clinic: Path) -> Engine:
    return Engine(index=clinic / "store", adapter=clinic / "adapter", dtype="float32")


@pytest.fixture(scope="session")
def served(engine: Engine) -> Iterator[Served]:
    with serving(engine, limits=LIMITS) as found:
        yield found


@pytest.fixture(scope="session")
def photo(clinic: Path) -> bytes:
    """One that is in the index, first row."""
    return (clinic / "photos" / "eye0.png").read_bytes()
