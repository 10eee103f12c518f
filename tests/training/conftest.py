"""Small drawn eyes that several tests share."""

from __future__ import annotations

import pytest
import torch

from retina_fm.training import draw_retina, prepare_drawn, render_batch

SIZE = 256


@pytest.fixture(scope="session")
def drawn_retinas():
    return [draw_retina(seed, SIZE, lesions={}) for seed in range(4)]


@pytest.fixture(scope="session")
def prepared_eyes(drawn_retinas):
    return [prepare_drawn(retina) for retina in drawn_retinas]


@pytest.fixture(scope="session")
def healthy_sequences(prepared_eyes):
    return render_batch(prepared_eyes, torch.Generator().manual_seed(3), painting=0.0, augment=False)


@pytest.fixture(scope="session")
def painted_sequences(prepared_eyes):
    return render_batch(prepared_eyes, torch.Generator().manual_seed(4), painting=1.0, augment=False)
