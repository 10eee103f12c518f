"""Protocols over made features: a planted signal is found, none is invented, patients stay together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluation.made import features_task

from retina_fm.errors import ConfigError
from retina_fm.evaluation.classifying import run_cell, settings_of
from retina_fm.evaluation.outcomes import classification_figures, compare
from retina_fm.evaluation.protocols.few_shot import draw, few_shot
from retina_fm.evaluation.protocols.probe import probe
from retina_fm.evaluation.protocols.retrieval import by_modality, retrieval_figures, retrieve
from retina_fm.evaluation.protocols.supervised import supervised
from retina_fm.evaluation.protocols.zero_shot import READINGS, zero_shot
from retina_fm.evaluation.suite import Settings

QUICK = Settings(seeds=(0, 1), shots=(2,), head="nearest-mean", bootstrap=100, permutations=50)


def area(outcomes, task) -> dict:
    return classification_figures(outcomes, task.truth, task.patients, task.classes, samples=200)["auroc"]


def test_a_planted_signal_is_found_by_every_protocol() -> None:
    features, task = features_task(signal=5.0)
    found = {
        "probe": probe(features, task, task.patients),
        "few-shot": few_shot(features, task, task.patients, shots=8, seeds=(0, 1), head="linear"),
        "supervised": supervised(features, task, task.patients, seeds=(0,), head="linear"),
        "clusters": zero_shot(features, task, task.patients, reading="clusters", seeds=(0, 1)),
        "nearest": zero_shot(features, task, task.patients, reading="nearest-patient", seeds=(0,)),
    }
    areas = {name: area(outcomes, task)["mean"] for name, outcomes in found.items()}
    assert min(areas.values()) > 0.85, areas


@pytest.mark.parametrize("protocol", ["probe", "few-shot", "supervised", "nearest-patient", "untrained-head"])
def test_shuffled_labels_give_chance_within_the_interval(protocol: str) -> None:
    hits, means = 0, []
    for seed in range(8):
        features, task = features_task(seed, patients=160)
        labels = np.random.default_rng(seed).permutation(task.truth[::2])
        task = replace(task, truth=np.repeat(labels, 2))  # a label a patient, as before
        outcomes = {
            "probe": lambda f, t: probe(f, t, t.patients),
            "few-shot": lambda f, t: few_shot(f, t, t.patients, shots=4, seeds=(0, 1, 2), head="linear"),
            "supervised": lambda f, t: supervised(f, t, t.patients, seeds=(0, 1, 2), head="linear"),
            "nearest-patient": lambda f, t: zero_shot(f, t, t.patients, reading=protocol, seeds=(0,)),
            "untrained-head": lambda f, t: zero_shot(f, t, t.patients, reading=protocol, seeds=(0, 1, 2)),
        }[protocol](features, task)
        found = area(outcomes, task)
        interval = found["bootstrap"]
        means.append(found["mean"])
        hits += interval["low"] <= 0.5 <= interval["high"]
    assert hits >= 5  # the interval knows the patients judged, not those trained on: see docs/evaluation.md
    assert np.mean(means) == pytest.approx(0.5, abs=0.04)


def test_no_patient_is_drawn_and_judged() -> None:
    features, task = features_task(classes=3)
    for seed in range(5):
        drawn = draw(task, task.patients, 4, seed)
        assert len(drawn.train) == 12
        assert len(set(task.patients[drawn.train])) == 12
        assert not set(task.patients[drawn.train]) & set(task.patients[drawn.test])
        (outcome,) = supervised(features, task, task.patients, seeds=(seed,), head="nearest-mean")
        parts = [set(task.patients[rows]) for rows in (*outcome.parts.values(), outcome.tested)]
        assert not parts[0] & parts[1]
        assert not parts[0] & parts[2]
        assert not parts[1] & parts[2]
        shares = [len(part) / 80 for part in parts]
        assert shares == pytest.approx([0.55, 0.15, 0.30], abs=0.04)


def test_folds_judge_every_row_once_without_its_patient() -> None:
    features, task = features_task()
    (outcome,) = probe(features, task, task.patients)
    folds = list(outcome.parts.values())
    assert sorted(np.concatenate(folds)) == list(range(len(task.truth)))
    assert all(not set(task.patients[a]) & set(task.patients[b]) for a in folds for b in folds if a is not b)


def test_an_official_split_is_kept() -> None:
    features, task = features_task(official=True, signal=3.0)
    test = np.flatnonzero(task.official == "test")
    for outcomes in (
        probe(features, task, task.patients),
        few_shot(features, task, task.patients, shots=2, seeds=(0,), head="linear"),
        supervised(features, task, task.patients, seeds=(0,), head="linear"),
        zero_shot(features, task, task.patients, reading="nearest-patient", seeds=(0,)),
    ):
        (outcome,) = outcomes
        assert (outcome.tested == test).all()
        assert not any(set(rows) & set(test) for rows in outcome.parts.values())


def test_a_class_with_one_patient_is_left_out_and_named() -> None:
    features, task = features_task(classes=2)
    truth = task.truth.copy()
    truth[:2] = 2  # one patient with a class of its own
    task = replace(task, truth=truth, classes=("c0", "c1", "rare"))
    drawn = draw(task, task.patients, 1, 0)
    assert drawn.too_few == ("rare",)
    assert 2 not in task.truth[np.concatenate([drawn.train, drawn.test])]
    cell = run_cell("few-shot", "2 shots", features, task, task.patients, QUICK, None)
    assert cell.extra["too_few"] == ["rare"]
    cell = run_cell("supervised", "nearest-mean", features, task, task.patients, QUICK, None)
    assert cell.figures["absent"] == ["rare"]
    assert cell.figures["auroc"]["per_class"]["rare"] is None


def test_a_class_seen_in_testing_alone_counts_as_untrained() -> None:
    features, task = features_task(official=True)
    truth = task.truth.copy()
    truth[np.flatnonzero(task.official == "test")[:2]] = 2
    task = replace(task, truth=truth, classes=("c0", "c1", "new"))
    cell = run_cell("probe", "linear", features, task, task.patients, QUICK, None)
    assert cell.figures["untrained"] == ["new"]
    assert cell.figures["auroc"]["per_class"]["new"] == 0.5


def test_too_few_patients_are_a_reason_not_a_crash() -> None:
    features, task = features_task(patients=4)
    assert "fewer than two classes" in run_cell(
        "few-shot", "16 shots", features, task, task.patients, QUICK, None
    )


def test_constant_features_give_chance() -> None:
    features, task = features_task()
    for protocol in ("probe", "few-shot", "supervised"):
        (setting,) = settings_of(protocol, QUICK)
        cell = run_cell(protocol, setting, np.ones_like(features), task, task.patients, QUICK, None)
        assert cell.figures["auroc"]["mean"] == pytest.approx(0.5, abs=0.15)


def test_runs_repeat_to_the_bit() -> None:
    features, task = features_task(signal=1.0)
    for protocol in ("probe", "zero-shot", "few-shot", "supervised", "retrieval"):
        for setting in settings_of(protocol, QUICK):
            first, second = (
                run_cell(protocol, setting, features, task, task.patients, QUICK, None) for _ in range(2)
            )
            assert first.figures == second.figures


def test_every_reading_says_what_it_is_and_others_are_refused() -> None:
    features, task = features_task()
    for reading in READINGS:
        assert zero_shot(features, task, task.patients, reading=reading, seeds=(0,))[0].scores.shape == (
            160,
            2,
        )
    with pytest.raises(ConfigError, match="Did you mean 'clusters'"):
        zero_shot(features, task, task.patients, reading="cluster", seeds=(0,))


def test_the_paper_s_head_runs_few_shot_and_supervised() -> None:
    features, task = features_task(patients=40, signal=5.0)
    settings = QUICK.model_copy(update={"head": "mlp", "seeds": (0,)})
    assert (
        run_cell("few-shot", "2 shots", features, task, task.patients, settings, None).figures["auroc"][
            "mean"
        ]
        > 0.7
    )
    assert (
        run_cell("supervised", "mlp", features, task, task.patients, settings, (8, 8)).figures["auroc"][
            "mean"
        ]
        > 0.8
    )


def test_comparing_a_model_with_noise_finds_the_difference() -> None:
    features, task = features_task(signal=4.0)
    noise = np.random.default_rng(0).normal(size=features.shape)
    one, two = (supervised(f, task, task.patients, seeds=(0, 1, 2), head="linear") for f in (features, noise))
    found = compare(one, two, task.truth, task.patients, samples=200)
    assert found["difference"] > 0.3
    assert found["permutation_p"] < 0.02
    assert found["t_test_p"] < 0.05


def test_recall_worked_by_hand() -> None:
    patients = np.array(["a", "a", "b", "b", "c"])
    features = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.8, 0.3], [0.1, 0.9]])
    found = retrieve(features, patients, ks=(1, 2, 4))
    assert found.queries.tolist() == [0, 1, 2, 3]  # c has no other picture
    assert found.hits.astype(int).tolist() == [[1, 1, 1], [1, 1, 1], [0, 1, 1], [0, 0, 1]]
    figures = retrieval_figures(found, patients, ks=(1, 2, 4), samples=50)
    assert figures["recall@1"]["mean"] == 0.5
    assert figures["recall_mean"]["mean"] == pytest.approx((0.5 + 0.75 + 1) / 3)


def test_shares_found_count_all_pictures_of_a_patient() -> None:
    patients = np.array(["a", "a", "a", "b"])
    features = np.array([[1, 0], [0.99, 0.01], [0, 1], [0.7, 0.3]])
    found = retrieve(features, patients, ks=(1, 2))
    assert found.found[0].tolist() == [0.5, 0.5]


def test_recall_is_that_of_the_indexes() -> None:
    from retina_fm.indexes import recall_at_k

    random = np.random.default_rng(0)
    patients = np.repeat([f"p{n}" for n in range(30)], 3)
    features = random.normal(size=(90, 8)) + np.repeat(random.normal(size=(30, 8)), 3, axis=0)
    ours = retrieval_figures(retrieve(features, patients), patients, samples=0)
    theirs = recall_at_k(features.astype(np.float32), patients.tolist())
    for k in (1, 5, 10):
        assert ours[f"recall@{k}"]["mean"] == pytest.approx(theirs.any_hit[k].mean)
        assert ours[f"found@{k}"]["mean"] == pytest.approx(theirs.share_found[k].mean)
    assert ours["recall_mean"]["mean"] == pytest.approx(theirs.average.mean)


def test_recall_by_pairs_of_modalities() -> None:
    patients = np.array(["a", "a", "b", "b"])
    features = np.array([[1, 0.0], [0.9, 0.1], [0, 1.0], [0.8, 0.3]])
    found = by_modality(features, patients, np.array(["CF", "FFA", "CF", "FFA"]), ks=(1,))
    assert found == {
        "CF -> FFA": {"queries": 2, "recall@1": 1.0},
        "FFA -> CF": {"queries": 2, "recall@1": 0.5},
    }
