"""One door says whether a place holds paired videos or prepared eyes."""

from __future__ import annotations

import pytest

from retina_fm.errors import NoPicturesError, PictureError
from retina_fm.training import open_stream, preset_named
from retina_fm.training.pretraining.data.sources import EyeSource, PairSource, open_source


def test_a_table_is_known_by_its_ending_or_by_its_folder(tmp_path):
    (tmp_path / "clinic").mkdir()
    (tmp_path / "clinic" / "pairs.csv").write_text("")
    (tmp_path / "eyes.csv").mkdir()
    found = {name: open_source(tmp_path / name) for name in ("clinic", "clinic/pairs.csv", "OLD.CSV")}
    assert all(isinstance(source, PairSource) for source in found.values())
    assert found["clinic"].table == found["clinic/pairs.csv"].table == tmp_path / "clinic" / "pairs.csv"
    assert found["clinic"].name == found["clinic/pairs.csv"].name == "clinic"
    assert isinstance(open_source(tmp_path / "eyes.csv"), EyeSource), "a folder is asked for its pairs.csv"


def test_what_is_not_there_is_said_by_its_kind(tmp_path):
    with pytest.raises(PictureError, match=r"CLINIC\.CSV cannot be read"):
        open_stream([tmp_path / "CLINIC.CSV"], preset_named("tiny"))
    with pytest.raises(NoPicturesError, match="no prepared eyes"):
        open_stream([tmp_path], preset_named("tiny"))
