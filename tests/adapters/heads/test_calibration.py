from __future__ import annotations

import itertools

import numpy as np
import pytest

from retina_fm.adapters.heads.calibration import fit_temperature
from retina_fm.adapters.heads.mlp_training import Protocol


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_a_factor_on_the_logits(multi_label: bool, factor: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (6000, 3))
    if multi_label:
        onehot = (random.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)
    else:
        onehot = np.eye(3)[(logits + random.gumbel(size=logits.shape)).argmax(1)]
    assert fit_temperature(logits * factor, onehot, multi_label) == pytest.approx(factor, rel=0.08)


def test_the_rate_rises_over_ten_of_fifty_epochs_and_falls_to_the_last() -> None:
    protocol = Protocol()
    assert protocol.rate(0) == 0
    assert protocol.rate(10 / 50) == pytest.approx(5e-4)
    assert protocol.rate(5 / 50) == pytest.approx(2.5e-4)
    assert protocol.rate(1) == pytest.approx(1e-6)
    rates = [protocol.rate(epoch / 50) for epoch in range(10, 51)]
    assert all(first > second for first, second in itertools.pairwise(rates))
    assert protocol.steps(160) == (10, 500)
