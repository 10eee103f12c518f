from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retina_fm.errors import NoPicturesError, PictureError
from retina_fm.pictures import count, expand, is_single


@pytest.fixture
def folder(tmp_path):
    """Files that are never opened: they hold nothing."""
    names = "eye10.jpg eye2.JPG .hidden.png notes.txt b/eye1.png b/.git/x.png __MACOSX/y.png a/c/scan.dcm"
    for name in names.split():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path


def relative(photos, folder):
    return [Path(photo).relative_to(folder).as_posix() for photo in photos]


def test_a_folder_is_listed_recursively_in_natural_order_without_hidden_files(folder):
    assert relative(expand(folder), folder) == ["a/c/scan.dcm", "b/eye1.png", "eye2.JPG", "eye10.jpg"]
    assert relative(expand(str(folder)), folder) == relative(expand(folder), folder)
    assert count(folder) == 4 and not is_single(folder)


def test_a_glob_lists_matching_pictures(folder):
    assert relative(expand(f"{folder}/eye*"), folder) == ["eye2.JPG", "eye10.jpg"]
    assert relative(expand(f"{folder}/**/*.png"), folder) == ["b/eye1.png"]
    assert count(f"{folder}/eye*") == 2


def test_a_file_whose_name_looks_like_a_pattern_is_one_photo(folder):
    odd = folder / "eye[1].png"
    odd.touch()
    assert is_single(str(odd)) and list(expand(odd)) == [odd]


def test_folders_and_globs_without_pictures_say_so(tmp_path):
    (tmp_path / "notes.txt").touch()
    for photos in (tmp_path, f"{tmp_path}/*.png"):
        with pytest.raises(NoPicturesError, match=r"no picture"):
            list(expand(photos))
        with pytest.raises(FileNotFoundError):
            count(photos)


def test_a_link_back_up_does_not_loop(folder):
    (folder / "b" / "up").symlink_to(folder, target_is_directory=True)
    assert count(folder) == 4


@pytest.mark.parametrize(
    "photo",
    [
        "eye.png",
        Path("eye.png"),
        b"bytes",
        io.BytesIO(b"x"),
        Image.new("L", (40, 40)),
        np.zeros((40, 40), np.uint8),
        np.zeros((40, 40, 3), np.uint8),
        {"path": "eye.png"},
    ],
    ids=lambda photo: type(photo).__name__,
)
def test_one_photo_is_single_and_expands_to_itself(photo):
    assert is_single(photo) and count(photo) == 1
    assert next(iter(expand(photo))) is photo


def test_names_that_no_file_system_takes_are_left_to_the_reader():
    for name in ("x" * 5000, "a\0b", ""):
        assert list(expand(name)) == [name]


def test_stacks_are_many():
    torch = pytest.importorskip("torch")
    for stack in (np.zeros((5, 40, 40, 3), np.uint8), torch.zeros(5, 3, 40, 40)):
        assert not is_single(stack) and count(stack) == 5
        assert [tuple(photo.shape) for photo in expand(stack)] == [tuple(stack.shape[1:])] * 5
    assert is_single(torch.zeros(3, 40, 40))


def test_a_generator_is_drawn_from_one_by_one():
    drawn = []

    def photos():
        for number in range(10**9):
            drawn.append(number)
            yield f"{number}.png"

    endless = photos()
    assert count(endless) is None and not is_single(endless)
    stream = expand(endless)
    assert [next(stream), next(stream)] == ["0.png", "1.png"]
    assert drawn == [0, 1]


def test_lists_keep_their_order():
    names = ["b.png", "a.png", "b.png"]
    assert list(expand(names)) == names and count(names) == 3


@pytest.mark.parametrize("thing", [None, 3, 2.5, object()])
def test_what_is_no_photo_at_all_is_refused(thing):
    with pytest.raises(PictureError, match=type(thing).__name__):
        list(expand(thing))
