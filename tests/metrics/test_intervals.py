"""Intervals, tests and kappa against SciPy, scikit-learn and hand-worked cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from retina_fm.errors import ConfigError
from retina_fm.metrics.agreement import weighted_kappa
from retina_fm.metrics.intervals import (
    PairedRun,
    bootstrap_of,
    mean_interval,
    patient_bootstrap,
    patient_weights,
    percentile_interval,
    sign_flip_test,
    swap_test,
    t_test,
    weighted_means,
)
from retina_fm.metrics.scores import auroc

RUNS = [0.81, 0.84, 0.79, 0.83, 0.80]
OTHER = [0.78, 0.83, 0.75, 0.82, 0.80]


def test_the_interval_is_1_96_standard_errors_by_scipy() -> None:
    found = mean_interval(RUNS)
    low, high = stats.norm.interval(0.95, np.mean(RUNS), stats.sem(RUNS))
    assert found.mean == pytest.approx(np.mean(RUNS))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-5)


def test_one_run_has_no_interval() -> None:
    assert mean_interval([0.7]) == (0.7, None, None)


def test_the_t_test_is_scipys() -> None:
    assert t_test(RUNS, OTHER) == pytest.approx(stats.ttest_rel(RUNS, OTHER).pvalue)


def test_the_t_test_without_spread_says_what_it_can() -> None:
    assert t_test(RUNS, RUNS) == 1
    assert t_test([0.5, 0.75], [0.25, 0.5]) == 0
    assert t_test([0.5], [0.4]) is None
    with pytest.raises(ConfigError, match="cannot be paired"):
        t_test([0.5], [0.4, 0.3])


def test_the_sign_flip_test_is_exact_for_few_pairs() -> None:
    differences = np.subtract(RUNS, OTHER)
    wanted = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip_test(differences) == pytest.approx(wanted.pvalue)


def test_the_sign_flip_test_by_sampling_is_near_scipys() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1, 40)
    wanted = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=20_000, rng=1
    )
    assert sign_flip_test(differences, samples=20_000) == pytest.approx(wanted.pvalue, abs=0.01)
    assert sign_flip_test(np.zeros(40)) == 1


def test_a_bootstrap_draws_patients_with_all_their_pictures() -> None:
    patients = ["a", "a", "b", "c", "c", "c"]
    weights = patient_weights(patients, 200, seed=1)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(1) == 3).all()
    assert (weights == patient_weights(patients, 200, seed=1)).all()


def test_the_bootstrap_interval_covers_as_it_says() -> None:
    hits = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        truth = random.random(150) < 0.5
        scores = random.normal(size=150) + truth
        low, high = percentile_interval(auroc(truth, scores, patient_weights(range(150), 300, seed)))
        hits += low <= stats.norm.cdf(1 / np.sqrt(2)) <= high
    assert 51 <= hits <= 60


def paired(seed: int, better: float) -> PairedRun:
    random = np.random.default_rng(seed)
    truth = np.tile([0, 1], 60)
    base = random.normal(size=120)
    first = base + truth * (1 + better) + 0.3 * random.normal(size=120)
    second = (base + truth + 0.3 * random.normal(size=120)) * 100  # another scale must not matter
    patients = np.repeat(np.arange(60), 2)
    return PairedRun(truth, patients, np.stack([-first, first], 1), np.stack([-second, second], 1))


def test_swapping_finds_a_better_model_and_no_other() -> None:
    assert swap_test([paired(0, 2.0)], samples=300) < 0.01
    p_values = [swap_test([paired(seed, 0.0)], samples=200) for seed in range(20)]
    assert sum(p < 0.1 for p in p_values) <= 6
    assert swap_test([paired(1, 0.5)], samples=100) == swap_test([paired(1, 0.5)], samples=100)


@pytest.mark.parametrize("weights", ["linear", "quadratic", "none"])
def test_kappa_is_scikit_learns(weights: str) -> None:
    random = np.random.default_rng(0)
    first = random.integers(1, 6, 80)
    second = np.clip(first + random.integers(-1, 2, 80), 1, 5)
    wanted = cohen_kappa_score(
        first, second, labels=[1, 2, 3, 4, 5], weights=None if weights == "none" else weights
    )
    found = weighted_kappa(first, second, weights=weights)
    assert found.kappa == pytest.approx(wanted)
    assert found.low < found.kappa < found.high
    assert found.p_value < 0.001


def test_kappa_worked_by_hand() -> None:
    # 10 items on two levels: 4 + 4 agree; chance agreement is one half
    first, second = [1] * 5 + [2] * 5, [1] * 4 + [2] + [1] + [2] * 4
    found = weighted_kappa(first, second, weights="none", scale=(1, 2))
    assert found.kappa == pytest.approx((0.8 - 0.5) / 0.5)
    # for equal margins the null error is sqrt(pe / (n (1 - pe)))
    assert found.p_value == pytest.approx(2 * stats.norm.sf(0.6 / np.sqrt(0.1)))
    assert found.low == pytest.approx(0.6 - 1.96 * np.sqrt(0.8 * 0.2 / (10 * 0.25)))


def test_kappa_has_an_interval_that_covers() -> None:
    table = np.full((3, 3), 0.08) + np.eye(3) * (1 - 0.72) / 3
    truth = (np.trace(table) - 1 / 3) / (2 / 3)
    hits = 0
    for seed in range(200):
        cells = np.random.default_rng(seed).choice(9, 150, p=table.ravel() / table.sum())
        found = weighted_kappa(cells // 3 + 1, cells % 3 + 1, weights="none", scale=(1, 2, 3))
        hits += found.low <= truth <= found.high
    assert hits >= 180


def test_raters_who_always_say_the_same_have_no_kappa() -> None:
    found = weighted_kappa([1, 1, 1], [1, 1, 1])
    assert np.isnan(found.kappa)
    assert found.p_value is None
    assert found.p_difference == 1


def test_kappa_refuses_scores_that_are_not_on_the_scale() -> None:
    with pytest.raises(ConfigError, match="Score 6 is not on the scale 1 to 5"):
        weighted_kappa([1, 6], [1, 2])
    with pytest.raises(ConfigError, match="same items"):
        weighted_kappa([1], [1, 2])


def test_a_bootstrap_is_said_where_there_are_samples_and_not_otherwise() -> None:
    weights = patient_weights(["a", "a", "b"], 200, 0)
    said = bootstrap_of(weighted_means([0.0, 0.0, 1.0], weights))["bootstrap"]
    assert said == {"low": 0.0, "high": 1.0}
    assert bootstrap_of(weighted_means([0.0, 1.0], patient_weights(["a", "b"], 0, 0))) == {}


def test_the_interval_covers_the_mean_and_treats_a_patient_as_one() -> None:
    values = np.repeat([1.0, 0.0, 1.0, 0.0], 50)[:, None]
    as_patients = patient_bootstrap(values, np.repeat(np.arange(4), 50))[0]
    as_pictures = patient_bootstrap(values, np.arange(200))[0]
    assert as_patients.mean == as_pictures.mean == 0.5
    assert as_patients.high - as_patients.low > 3 * (as_pictures.high - as_pictures.low)
    assert as_pictures.low < 0.5 < as_pictures.high
    assert patient_bootstrap(values, np.arange(200), seed=3) == patient_bootstrap(
        values, np.arange(200), seed=3
    )
