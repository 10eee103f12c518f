"""Schedule and calibration of a head, and which state is kept where the validation part says little."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from retina_fm import adapters
from retina_fm.adapters.examples.draws import validation_split
from retina_fm.adapters.heads.mlp_network import MLP
from retina_fm.adapters.heads.mlp_training import Protocol, fit_temperature, is_better, train
from retina_fm.learning import seeded


def far_classes(count: int, seed: int = 0, width: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Two classes that differ in a few of many features."""
    random = np.random.default_rng(seed)
    y = np.arange(count) % 2
    X = random.normal(size=(count, width))  # noqa: N806
    X[:, :24] += 0.6 * (2 * y[:, None] - 1)
    return X, y


def trained(score: float | None) -> dict[str, torch.Tensor]:
    X, y = far_classes(12)  # noqa: N806
    with seeded(0):
        module = MLP([256], 2, hidden=16, dropout=0.0)
    wanted = torch.from_numpy(y)
    train(
        module,
        torch.from_numpy(X.astype(np.float32)),
        lambda out, rows: torch.nn.functional.cross_entropy(out, wanted[rows]),
        Protocol(epochs=4),
        None if score is None else lambda _: score,
        0,
    )
    return module.state_dict()


@pytest.mark.parametrize("score", [1.0, float("nan")])
def test_of_states_on_a_par_the_last_is_kept_and_no_score_chooses_none(score: float) -> None:
    last = trained(None)
    for name, value in trained(score).items():
        assert torch.equal(value, last[name])


def test_what_counts_as_better() -> None:
    assert is_better(0.5, None) and is_better(0.5, 0.5) and is_better(0.6, 0.5)
    assert not is_better(0.4, 0.5) and not is_better(float("nan"), None)


def test_four_examples_a_class_are_learnt_as_well_with_a_validation_part_as_without() -> None:
    X, y = far_classes(400, seed=1)  # noqa: N806
    scores: dict[float, list[float]] = {0.0: [], 0.2: []}
    for validation, found in scores.items():
        for draw in range(5):
            few, rest = slice(8 * draw, 8 * draw + 8), slice(40, None)
            head = adapters.MLPClassifier(validation=validation, seed=draw).fit(X[few], y[few])
            found.append(roc_auc_score(y[rest], head.predict_proba(X[rest])[:, 1]))
    assert np.mean(scores[0.2]) > 0.75
    assert np.mean(scores[0.2]) > np.mean(scores[0.0]) - 0.08


def test_two_examples_that_are_told_apart_do_not_make_it_certain() -> None:
    assert 0.3 < fit_temperature(np.array([[2.0, -2.0], [-1.0, 1.0]]), np.eye(2), False) < 1
    assert 1 < fit_temperature(np.array([[-2.0, 2.0], [1.0, -1.0]]), np.eye(2), False) < 5


def test_nothing_is_set_aside_where_a_patient_would_take_the_whole_class_along() -> None:
    y = np.array([0] * 30 + [1] * 30)
    patients = np.array([str(number // 10) for number in range(30)] + [f"x{number}" for number in range(30)])
    train_part, held = validation_split(y, patients, 0.2, 0)
    assert len(held) == 0 and len(train_part) == 60
    X, _ = far_classes(60)  # noqa: N806
    X[:, 0] += 3 * y
    head = adapters.MLPClassifier().fit(X, y, groups=patients)
    assert head.validation_auroc_ is None and head.score(X, y) > 0.95


def test_a_validation_part_of_one_class_warns_and_keeps_the_last_epoch() -> None:
    X, y = far_classes(40)  # noqa: N806
    alone = adapters.MLPClassifier(validation=0, calibrate=False).fit(X, y)
    with pytest.warns(UserWarning, match="one class alone"):
        head = adapters.MLPClassifier(calibrate=False).fit(X, y, val=(X[y == 1], y[y == 1]))
    assert head.validation_auroc_ is None
    np.testing.assert_array_equal(head.predict_proba(X), alone.predict_proba(X))


def test_a_linear_head_takes_two_patients() -> None:
    X, y = far_classes(60)  # noqa: N806
    head = adapters.LinearClassifier().fit(X, y, groups=["north", "south"] * 15 + ["south", "north"] * 15)
    assert head.score(X, y) > 0.95


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
