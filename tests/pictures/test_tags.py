"""What a photo says of itself, and what its user says of it, which goes first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.sequence import Sequence

from retina_fm.pictures import read_picture
from retina_fm.pictures.tags import NOTHING, Tags, tags_of, with_rows
from tests.pictures.drawn import dataset, dicom_bytes, encoded, fundus

PHOTO = fundus(48, 64)


def tagged(**tags: Any) -> pydicom.Dataset:
    made = dataset(PHOTO, "RGB")
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def test_dicom_says_eye_patient_time_and_spacing(tmp_path: Path) -> None:
    made = tagged(
        ImageLaterality="L", PatientID=" 0042 ", AcquisitionDateTime="20200304051607.25+0100",
        PixelSpacing=[0.008, 0.008], StudyDate="19990101",
    )  # fmt: skip
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom_bytes(made))
    wanted = Tags("left", "0042", "2020-03-04T05:16:07", 8.0, "dicom")
    for photo in (path, {"path": str(path)}, path.read_bytes(), made, {"dataset": made}):
        assert tags_of(photo) == wanted


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ({"Laterality": "B", "PixelSpacing": [0.008, 0.01]}, NOTHING),
        ({"Laterality": "R"}, Tags("right", eye_source="dicom")),
        ({"AcquisitionDate": "20200304", "AcquisitionTime": "0516"}, Tags(acquired="2020-03-04T05:16:00")),
        ({"ContentDate": "20200304", "StudyDate": "20190101"}, Tags(acquired="2020-03-04")),
        ({"AcquisitionDate": "", "StudyDate": "20190101", "PatientID": "none"}, Tags(acquired="2019-01-01")),
    ],
)
def test_tags_that_are_missing_ambiguous_or_elsewhere(tags: dict[str, Any], wanted: Tags) -> None:
    assert tags_of(tagged(**tags)) == wanted


def test_frames_share_their_tags() -> None:
    anatomy, measures, groups = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    anatomy.FrameLaterality = "R"
    measures.PixelSpacing = [0.006, 0.006]
    groups.FrameAnatomySequence, groups.PixelMeasuresSequence = Sequence([anatomy]), Sequence([measures])
    said = tags_of(tagged(SharedFunctionalGroupsSequence=Sequence([groups])))
    assert (said.eye, said.spacing_um) == ("right", pytest.approx(6))


def test_what_a_user_says_goes_first_where_he_says_something(tmp_path: Path) -> None:
    made = tagged(ImageLaterality="L", PatientID="7", StudyDate="20190101")
    row = {"dataset": made, "eye": "OD", "patient_id": "NA", "acquired": "", "spacing_um": "7.5"}
    assert tags_of(row) == Tags("right", "7", "2019-01-01", 7.5, "column")
    assert tags_of({"photo": PHOTO, "eye": "both"}) == Tags("both", eye_source="column")
    assert tags_of(encoded(PHOTO, "PNG")) == tags_of(PHOTO) == tags_of(tmp_path / "lost.dcm") == NOTHING


def test_rows_of_a_table_join_photos_of_any_form() -> None:
    photos = with_rows([PHOTO, encoded(PHOTO, "PNG"), "a.png"], {"eye": ["OS", "", "left"]})
    assert [tags_of(photo).eye for photo in photos] == ["left", None, "left"]
    assert all((read_picture(photo) == PHOTO).all() for photo in photos[:2])
    assert isinstance(photos[0]["photo"], np.ndarray)
