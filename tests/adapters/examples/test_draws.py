from __future__ import annotations

import numpy as np
import pytest

from retina_fm.adapters import draw_examples, draw_pictures
from retina_fm.adapters.examples.draws import check_groups, refuse_shared_patients
from retina_fm.errors import ConfigError


def test_a_draw_holds_each_class_and_the_rest_no_drawn_patient() -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 200)
    patients = random.integers(0, 60, 200)
    for shots in (1, 2, 4, 8):
        for seed in range(5):
            draw = draw_examples(y, shots, seed=seed, groups=patients)
            for value in range(3):
                of_class = draw.drawn[y[draw.drawn] == value]
                assert len(of_class) >= shots
            assert not set(patients[draw.drawn]) & set(patients[draw.rest])
            assert set(draw.drawn) | set(draw.rest) | set(
                np.flatnonzero(np.isin(patients, patients[draw.drawn]))
            ) == set(range(200))


def test_draws_differ_by_seed_and_repeat_by_seed() -> None:
    y = np.arange(100) % 2
    first = [tuple(draw_examples(y, 4, seed=seed).drawn) for seed in range(5)]
    assert len(set(first)) == 5
    assert first == [tuple(draw_examples(y, 4, seed=seed).drawn) for seed in range(5)]


def test_several_labels_are_drawn_with_and_without() -> None:
    y = (np.random.default_rng(1).random((80, 3)) < 0.3).astype(int)
    drawn = draw_examples(y, 2, seed=0).drawn
    assert (y[drawn].sum(0) >= 2).all()
    assert ((1 - y[drawn]).sum(0) >= 2).all()


def test_pictures_are_drawn_one_a_patient() -> None:
    draw = draw_pictures(10, 4, seed=2, groups=np.arange(10) // 2)
    assert len(set(draw.drawn // 2)) == 4
    assert len(draw.rest) == 2
    with pytest.raises(ConfigError, match="10 examples of 5 patients, 6 shots"):
        draw_pictures(10, 6, groups=np.arange(10) // 2)


@pytest.mark.parametrize("shots", [0, -1, 1.5, True])
def test_shots_are_whole_numbers_from_one(shots: int) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        draw_pictures(4, shots)


def test_groups_must_be_complete() -> None:
    with pytest.raises(ConfigError, match="3 groups for 4 examples"):
        draw_pictures(4, 1, groups=[1, 2, 3])
    with pytest.raises(ConfigError, match="A group is missing"):
        draw_pictures(3, 1, groups=["a", None, "b"])


def test_patients_in_several_spellings_are_one_and_blanks_are_refused() -> None:
    assert check_groups(["P-01", "p1", "P2"], 3).tolist() == ["P-01", "P-01", "P2"]
    with pytest.raises(ConfigError, match="A group is missing"):
        check_groups(["P1", " "], 2)
    with pytest.raises(ConfigError, match=r"1 patients are in .* \('P-01' = 'p1'\)"):
        refuse_shared_patients(check_groups(["P-01"], 1), check_groups(["p1", "P2"], 2))
