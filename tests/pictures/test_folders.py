"""A folder is read as people expect, and nothing that lies in it ends or hangs a run."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retina_fm.errors import NoPicturesError, PictureError
from retina_fm.pictures import count, expand, is_single, read_picture
from tests.pictures.drawn import dataset, dicom_bytes, encoded, fundus

PICTURE = fundus(64, 64)


def touched(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def listed(photos, folder):
    return [Path(photo).relative_to(folder).as_posix() for photo in expand(photos)]


def test_linked_folders_are_read_once_each(tmp_path):
    inside, outside = tmp_path / "photos", tmp_path / "elsewhere"
    touched(inside, "b/1.png")
    touched(outside, "2.png", "deeper/3.png")
    (inside / "a").symlink_to(inside / "b", target_is_directory=True)  # met before the folder itself
    (inside / "c").symlink_to(outside, target_is_directory=True)
    (inside / "d").symlink_to(outside, target_is_directory=True)
    (inside / "up").symlink_to(tmp_path, target_is_directory=True)
    (inside / "self").symlink_to("self")
    assert listed(inside, inside) == ["b/1.png", "c/2.png", "c/deeper/3.png"]
    assert count(inside) == 3


def test_every_ending_that_is_read_is_listed(tmp_path):
    for form, endings in {
        "JPEG": ("jfif", "jpe"),
        "JPEG2000": ("jp2", "j2k"),
        "WEBP": ("webp",),
        "PPM": ("pnm",),
    }.items():
        for ending in endings:
            (tmp_path / f"eye.{ending}").write_bytes(encoded(PICTURE, form))
    assert len({read_picture(photo).shape for photo in expand(tmp_path)}) == 1
    assert count(tmp_path) == 6


def test_endings_that_need_a_plugin_are_read_or_counted(tmp_path, monkeypatch, caplog):
    touched(tmp_path, "eye.png", "eye.avif", "eye.heic")
    Image.init()
    for form in ("AVIF", "HEIF"):
        monkeypatch.delitem(Image.OPEN, form, raising=False)
    with caplog.at_level(logging.WARNING, "retina_fm"):
        assert listed(tmp_path, tmp_path) == ["eye.png"]
    assert "2 files passed over: 1 .avif, 1 .heic" in caplog.text
    monkeypatch.setitem(Image.OPEN, "AVIF", Image.OPEN["PNG"])
    assert listed(tmp_path, tmp_path) == ["eye.avif", "eye.png"]


def test_dicom_is_known_without_an_ending(tmp_path):
    pytest.importorskip("pydicom")
    data = dicom_bytes(dataset(PICTURE[..., 1], "MONOCHROME2"))
    for name in ("IM000001", "1.2.840.113619.2.55.3", "series/00000001.ima", "DICOMDIR"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "README").write_text("no picture")
    (tmp_path / "empty").touch()
    found = listed(tmp_path, tmp_path)
    assert found == ["1.2.840.113619.2.55.3", "IM000001", "series/00000001.ima"]
    assert (read_picture(tmp_path / "IM000001")[..., 0] == PICTURE[..., 1]).all()


def test_what_is_passed_over_is_said_with_its_kinds(tmp_path, caplog):
    touched(
        tmp_path, "a.png", "labels.csv", "b/notes.TXT", "b/more.txt", "b/README", ".hidden.txt", "x.\x1b[2J"
    )
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with caplog.at_level(logging.WARNING, "retina_fm"):
        assert listed(tmp_path, tmp_path) == ["a.png"]
    said = caplog.messages[-1]
    assert "6 files passed over: 2 .txt" in said
    for kind in ("1 .csv", "1 without ending", "1 link to nothing", "1 .\\x1b[2j"):
        assert kind in said
    caplog.clear()
    with caplog.at_level(logging.WARNING, "retina_fm"):
        list(expand(f"{tmp_path}/*"))
        list(expand([str(tmp_path / "a.png")]))
    assert len(caplog.messages) == 1 and "1 .csv" in caplog.text
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")  # a picture that is missing is an error
    with pytest.raises(NoPicturesError, match=r"lost\.png: there is no such file"):
        [read_picture(photo) for photo in expand(tmp_path) if photo.name == "lost.png"]
    (tmp_path / "lost.png").unlink()
    with pytest.raises(NoPicturesError, match=r"1 \.csv"):
        shutil.rmtree(tmp_path / "b")
        (tmp_path / "a.png").unlink()
        list(expand(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="pipes and sockets of Linux")
def test_pipes_and_sockets_in_a_folder_are_counted_and_never_opened(tmp_path, caplog):
    touched(tmp_path, "eye.png")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening, caplog.at_level(logging.WARNING, "retina_fm"):
        listening.bind(str(tmp_path / "socket.png"))
        assert listed(tmp_path, tmp_path) == ["eye.png"]
        assert listed(f"{tmp_path}/*", tmp_path) == ["eye.png"]
    assert "3 pipe, socket or device" in caplog.text


def test_folders_nested_deeper_than_pythons_stack_are_read(tmp_path, caplog):
    depth = 1800
    top = deepest = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=deepest)
        below = os.open("d", os.O_RDONLY, dir_fd=deepest)
        if deepest != top:
            os.close(deepest)
        deepest = below
    os.close(os.open("eye.png", os.O_CREAT | os.O_WRONLY, dir_fd=deepest))
    os.close(deepest)
    os.close(top)
    try:
        with caplog.at_level(logging.WARNING, "retina_fm"):
            assert count(tmp_path) == 1
            assert [len(photo.parts) - len(tmp_path.parts) for photo in expand(tmp_path)] == [depth + 1]
        with pytest.raises(PictureError, match=r"too deep|no picture"):
            list(expand(f"{tmp_path}/**/*.jpg"))
    finally:
        _remove_deep(tmp_path / "d")


def _remove_deep(folder):
    """Without recursion: what is below moves up, until nothing is."""
    spare = folder.with_name("spare")
    while folder.exists():
        inner = folder / "d"
        if inner.exists():
            inner.rename(spare)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        if spare.exists():
            spare.rename(folder)


@pytest.mark.parametrize(
    "name", ["x" * 245 + ".png", "e\u0301ye.png", "\u00e9ye.png", "eye\x1b[31m.png", "a\nb.png"]
)
def test_names_of_every_kind_are_listed_and_read(tmp_path, name):
    (tmp_path / name).write_bytes(encoded(PICTURE, "PNG"))
    (found,) = expand(tmp_path)
    assert found.name == name and (read_picture(found) == PICTURE).all()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_utf8_are_listed_and_read(tmp_path):
    (tmp_path / os.fsdecode(b"\xe9ye.png")).write_bytes(encoded(PICTURE, "PNG"))
    (found,) = expand(tmp_path)
    assert (read_picture(found) == PICTURE).all()


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_is_found_in_its_other_spelling(tmp_path, forms):
    on_disk, typed = (unicodedata.normalize(form, "Müller é.png") for form in forms)
    (tmp_path / on_disk).write_bytes(encoded(PICTURE, "PNG"))
    assert (read_picture(tmp_path / typed) == PICTURE).all()
    (tmp_path / typed).write_bytes(encoded(255 - PICTURE, "PNG"))
    assert (read_picture(tmp_path / typed) == 255 - PICTURE).all()  # the very name comes first


def test_arrays_of_paths_are_photos():
    names = ["b.png", "a.png"]
    for photos in (np.array(names), np.array([Path(name) for name in names], object)):
        assert not is_single(photos) and count(photos) == 2
        assert [os.fspath(photo) for photo in expand(photos)] == names
    assert is_single(np.array("a.png"))


def test_columns_of_tables_are_photos_and_whole_tables_are_refused():
    pandas = pytest.importorskip("pandas")
    arrow = pytest.importorskip("pyarrow")
    names = ["b.png", "a.png"]
    columns = [
        pandas.Series(names, index=[7, 3]),
        pandas.Index(names),
        arrow.array(names),
        arrow.chunked_array([names]),
    ]
    frames = [pandas.DataFrame({"path": names}), arrow.table({"path": names})]
    try:
        import polars
    except ImportError:
        pass
    else:
        columns.append(polars.Series(names))
        frames.append(polars.DataFrame({"path": names}))
    for photos in columns:
        assert not is_single(photos) and count(photos) == 2
        assert [str(photo) for photo in expand(photos)] == names
        assert all(isinstance(photo, str) for photo in expand(photos))
    for photos in frames:
        for read in (is_single, count, lambda frame: list(expand(frame))):
            with pytest.raises(PictureError, match="column of photos"):
                read(photos)


def test_data_sets_of_hugging_face_are_photos(tmp_path):
    datasets = pytest.importorskip("datasets")
    files = []
    for number in range(2):
        files.append(str(tmp_path / f"{number}.png"))
        Path(files[-1]).write_bytes(encoded(fundus(64, 64, seed=number), "PNG"))
    made = datasets.Dataset.from_dict({"image": files, "label": [0, 1]}).cast_column(
        "image", datasets.Image()
    )
    for photos in (made, made["image"], made.to_iterable_dataset()):
        assert not is_single(photos)
        read = [read_picture(photo) for photo in expand(photos)]
        assert [(picture == fundus(64, 64, seed=n)).all() for n, picture in enumerate(read)] == [True, True]
    assert count(made) == 2
    with pytest.raises(PictureError, match="has none"):
        list(expand(made.remove_columns("image")))
    with pytest.raises(PictureError, match="choose a split"):
        list(expand(datasets.DatasetDict({"train": made})))


def test_a_table_beside_photographs_is_counted_without_a_warning(tmp_path, caplog):
    touched(tmp_path, "a.png", "labels.csv", "README.md")
    with caplog.at_level(logging.INFO, "retina_fm"):
        assert listed(tmp_path, tmp_path) == ["a.png"]
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "2 files passed over: 1 .csv, 1 .md" in caplog.text
