"""Which eye: what is said of a photo, and what is seen in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from measuring.made import SIDE, reading

from retina_fm.measuring.eye_side import in_name, said_of, seen_in
from retina_fm.measuring.reading import Reading
from retina_fm.pictures.tags import NOTHING, Tags, given_tags


@pytest.mark.parametrize(
    ("stem", "eye"),
    [
        ("1013_left", "left"),
        ("100_OD_1", "right"),
        ("1221_OI_f_3", "left"),
        ("Image_01L", "left"),
        ("Image_11R", "right"),
        ("PatientRightEye", "right"),
        ("oder_od_os", None),
        ("left_or_right", None),
        ("L_shaped", None),
        ("re_12", None),
        ("21", None),
    ],
)
def test_names_state_an_eye_or_do_not(stem: str, eye: str | None) -> None:
    assert in_name(stem) == eye


def test_a_column_goes_before_a_file_and_that_before_a_name(tmp_path: Path) -> None:
    named = str(tmp_path / "a_right.png")
    assert said_of(named, Tags("left", eye_source="dicom")) == ("left", "dicom")
    assert said_of(named, given_tags({"path": named, "eye": "OS"})) == ("left", "column")
    assert said_of(named, Tags("neither", eye_source="column")) == ("right", "file name")
    assert said_of({"path": named}, NOTHING) == ("right", "file name")
    assert said_of(np.zeros((4, 4, 3)), NOTHING) is None


def test_the_disc_is_nasal_of_the_fovea() -> None:
    left = reading()
    seen = seen_in(left)
    assert seen is not None and seen.eye == "left" and seen.confidence > 0.85
    mirrored = Reading(
        left.view[:, ::-1], left.inside[:, ::-1], left.radius, {k: v[:, ::-1] for k, v in left.maps.items()}
    )
    other = seen_in(mirrored)
    assert other is not None and other.eye == "right"
    assert other.confidence == pytest.approx(seen.confidence, abs=0.02)


def test_a_disc_alone_says_less_and_in_the_middle_nothing() -> None:
    alone = seen_in(reading(fovea=None))
    assert alone is not None and alone.eye == "left" and 0.55 < alone.confidence < 0.7
    middle = seen_in(reading(fovea=None, disc=(128.0, SIDE / 2 - 2)))
    assert middle is not None and middle.confidence < 0.55
    assert seen_in(reading(disc=None)) is None
