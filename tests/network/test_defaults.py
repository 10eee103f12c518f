"""What a caller set for torch as a whole changes neither what is loaded nor what is learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch

import retina_fm
from retina_fm.adapters.heads.mlp import MLPClassifier
from retina_fm.network.defaults import undisturbed

DISTURBED: dict[str, Callable[[ExitStack], Any]] = {
    "float64": lambda stack: (
        torch.set_default_dtype(torch.float64),
        stack.callback(torch.set_default_dtype, torch.float32),
    ),
    "meta": lambda stack: stack.enter_context(torch.device("meta")),
    "no_grad": lambda stack: stack.enter_context(torch.no_grad()),
    "inference": lambda stack: stack.enter_context(torch.inference_mode()),
}


@pytest.fixture(params=list(DISTURBED))
def disturbed(request: pytest.FixtureRequest) -> Iterator[str]:
    with ExitStack() as stack:
        DISTURBED[request.param](stack)
        yield request.param


def test_what_is_set_is_undone_and_set_again(disturbed: str) -> None:
    @undisturbed
    def made() -> torch.Tensor:
        return torch.nn.Linear(2, 2)(torch.ones(1, 2))

    before = torch.get_default_dtype(), torch.is_grad_enabled(), torch.empty(0).device
    found = made()
    assert found.dtype == torch.float32 and found.device.type == "cpu" and found.requires_grad
    assert (torch.get_default_dtype(), torch.is_grad_enabled(), torch.empty(0).device) == before, disturbed


@pytest.mark.usefixtures("disturbed")
def test_a_model_loads_and_a_head_fits_whatever_the_caller_set() -> None:
    encoder = retina_fm.load("fundus2video-tiny")
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert {p.device.type for p in encoder.parameters()} == {"cpu"}
    features, labels = np.random.default_rng(0).normal(size=(24, 4)), np.arange(24) % 2
    head = MLPClassifier(epochs=8).fit(features, labels)
    assert np.isfinite(next(iter(head.module_.parameters())).detach().numpy()).all()
