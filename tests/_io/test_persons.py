"""Spellings of one person's id are one person, blanks are nobody, and different people stay apart."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from retina_fm._io.persons import is_blank, is_nobody, persons, spellings

NFC = unicodedata.normalize("NFC", "Müller")
NFD = unicodedata.normalize("NFD", "Müller")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P01", "p01"),
        ("007", "7"),
        ("P-007", "P-7"),
        ("12", "12.0"),
        (12, 12.0),
        (NFC, NFD),
        ("P1", "P\u200b1"),
        ("P1", "\uff30\uff11"),
        ("P 1", "P1"),
        ("Anna  Meier", "anna meier"),
        ("P-1", "P_1"),
        ("P-1", "P\u20131"),
        ("12 34", "1234"),
        ("12-34", "12_34"),
        ("P1 ", "P1"),
    ],
)
def test_two_spellings_are_one_person(one: object, other: object) -> None:
    assert persons([one, other]) == [str(one), str(one)]
    assert spellings([one, other]) == {str(one): [str(one), str(other)]}


@pytest.mark.parametrize(
    "ids",
    [
        ["1-01", "10-1"],
        ["1-01", "10-1", "101"],
        ["P1", "P10"],
        ["P1", "P2"],
        ["1.1", "1.10"],
        ["0", "10"],
        ["A1", "1A"],
    ],
)
def test_different_people_stay_apart(ids: list[str]) -> None:
    assert persons(ids) == ids


@pytest.mark.parametrize(
    "value", [None, "", "  ", "NA", "n/a", "NaN", "Unknown", "none", "-", "\u200b", np.nan]
)
def test_a_blank_is_nobody(value: object) -> None:
    assert is_nobody(value)
    assert persons([value, "P1", value]) == [None, "P1", None]
    assert spellings([value, value]) == {}


def test_none_is_a_grade_and_no_person() -> None:
    assert not is_blank("none")
    assert is_blank("unknown") and is_blank(float("nan"))
