from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import retina_fm
from conftest import disc_picture
from retina_fm.errors import PictureError
from retina_fm.pictures import count, expand

datasets = pytest.importorskip("datasets")
SETTINGS: dict[str, Any] = {"workers": 0, "device": "cpu", "dtype": "float32"}


@pytest.fixture
def table(tmp_path: Path) -> Any:
    names = []
    for number in range(3):
        Image.fromarray(disc_picture(number)).save(tmp_path / f"{number}.png")
        names.append(str(tmp_path / f"{number}.png"))
    rows = datasets.Dataset.from_dict({"photo": names, "grade": [0, 1, 2]})
    return rows.cast_column("photo", datasets.Image())


def test_a_data_set_is_read_by_its_column_of_pictures(table: Any) -> None:
    expected = retina_fm.encode([disc_picture(n) for n in range(3)], "fundus2video-tiny", **SETTINGS)
    assert count(table) == 3
    for photos in (table, table["photo"], table.with_format("numpy"), table.to_iterable_dataset()):
        assert np.array_equal(retina_fm.encode(photos, "fundus2video-tiny", **SETTINGS), expected)
    assert all(isinstance(photo, dict) for photo in expand(table)), "bytes go to the workers, not pictures"


def test_columns_that_leave_a_doubt_are_named(table: Any) -> None:
    twice = table.add_column("other", table["grade"]).map(lambda row: {**row, "mask": row["photo"]})
    twice = twice.cast_column("mask", datasets.Image())
    with pytest.raises(PictureError, match="2 columns of pictures"):
        list(expand(twice))
    with pytest.raises(PictureError, match="has none among grade"):
        list(expand(table.remove_columns("photo")))
    with pytest.raises(PictureError, match="choose a split: 'train'"):
        list(expand(datasets.DatasetDict({"train": table})))
