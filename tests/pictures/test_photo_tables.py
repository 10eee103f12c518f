"""Tables with ``id`` and ``path`` are photos."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from retina_fm.errors import NoPicturesError, PictureError
from retina_fm.pictures import count, expand, is_single, read_picture
from tests.pictures.drawn import fundus


def test_a_table_is_its_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    for place in ("a.png", "images/b.png"):
        Image.fromarray(fundus(64, 64)).save(tmp_path / place)
    table = tmp_path / "list.csv"
    table.write_text("ID;Path;Eye;grade\n1;a.png;OD;2\n2;b.png;NA;3\n")
    assert not is_single(table) and count(str(table)) == 2
    photos = list(expand(table))
    assert photos == [
        {"path": str(tmp_path / "a.png"), "id": "1", "eye": "OD"},
        {"path": str(tmp_path / "images" / "b.png"), "id": "2"},
    ]
    assert all(read_picture(photo).shape == (64, 64, 3) for photo in photos)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "list.txt").write_text("path\na.png\n")
    monkeypatch.chdir(tmp_path)
    (photo,) = expand("elsewhere/list.txt")
    assert read_picture(photo).shape == (64, 64, 3), "relative to the working folder, as fundus tools write"


@pytest.mark.parametrize("text", ["id,file\n1,a.png\n", "path\n", ""])
def test_tables_of_no_photos_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(PictureError, match="needs a header with the column path"):
        list(expand(tmp_path / "list.csv"))


def test_a_lost_photo_is_said_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path\nlost.png\n")
    (photo,) = expand(tmp_path / "list.csv")
    with pytest.raises(NoPicturesError, match="there is no such file"):
        read_picture(photo)
