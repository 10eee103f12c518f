"""An index knows of which bytes its embeddings are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import retina_fm
from conftest import disc_picture
from retina_fm.errors import PictureError
from retina_fm.indexes import updating
from tests.pictures.drawn import encoded

TINY = "fundus2video-tiny"


def saved(path: Path, seed: int) -> Path:
    path.write_bytes(encoded(disc_picture(seed), "PNG"))
    return path


def test_a_swapped_file_gives_its_embedding_to_no_other_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    first = saved(photos / "a.png", 1)
    encode = updating.encoded

    def swapped(*arguments, **settings):  # type: ignore[no-untyped-def]
        saved(first, 2)  # after it was hashed, before it is decoded
        return encode(*arguments, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(updating, "encoded", swapped)
        retina_fm.index(photos, TINY, store=tmp_path / "store", dtype="float32")
    saved(photos / "b.png", 1)  # the content that was hashed first
    index = retina_fm.index(photos, TINY, store=tmp_path / "store", dtype="float32")
    for name, seed in (("a.png", 2), ("b.png", 1)):
        hit = index.search(disc_picture(seed), 1)[0]
        assert Path(hit.path).name == name and hit.score > 0.9999


@pytest.mark.skipif(sys.platform != "linux", reason="pipes of Linux")
def test_a_pipe_among_the_photos_is_refused_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(PictureError, match="not a regular file"):
        retina_fm.index([tmp_path / "pipe.png"], TINY, store=tmp_path / "store")
