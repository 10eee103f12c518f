"""Scratch is ours alone and swept, folders appear whole, and what is not ours is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from retina_fm._io import folders, scratch
from retina_fm._io.files import write_bytes, written_beside
from retina_fm._io.folders import contents, own_folder, remove_owned, whole_folder
from retina_fm._io.locks import locked
from retina_fm.errors import OutputError

OWNED = {"a", "b", "README.md"}


def fill(folder: Path, **files: str) -> None:
    with whole_folder(folder, "a thing", OWNED.__contains__, keeps=("README.md",)) as place:
        for name, text in files.items():
            (place / name).write_text(text)


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_a_link_that_lies_at_a_guessed_scratch_name_or_at_the_target_is_never_written_through(
    tmp_path: Path,
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for name in (".table.part", ".table.tmp", "table"):
        (tmp_path / name).symlink_to(precious)
    write_bytes(tmp_path / "table", b"ours")
    assert precious.read_text() == "mine" and (tmp_path / "table").read_bytes() == b"ours"
    assert not (tmp_path / "table").is_symlink()


def test_names_of_249_letters_are_written(tmp_path: Path) -> None:
    for name in ("x" * 249, "ä" * 124):
        with written_beside(tmp_path / name) as place:
            place.write_text("1")
        assert (tmp_path / name).read_text() == "1"
    assert len(os.fsencode(scratch.hidden_name("x" * 249, ".12345678.parts"))) == 255
    assert scratch.hidden_name("x" * 249, ".lock") != scratch.hidden_name("x" * 248 + "y", ".lock")


KILLED = """
import os, signal, sys
from pathlib import Path
from retina_fm._io.folders import whole_folder
from retina_fm._io.files import written_beside
with written_beside(Path(sys.argv[1]) / "t[a]ble") as one, whole_folder(sys.argv[1] + "/f", "a", bool) as two:
    one.write_text("half"), (two / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_scratch_of_a_killed_run_is_swept_and_that_of_a_living_one_and_of_others_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL and len(list(tmp_path.iterdir())) == 2
    others = [tmp_path / name for name in (".table.abc.part", ".t.part", "x.rfm-0123456789abcdef.part")]
    for path in others:
        path.write_text("of somebody else")
    link = tmp_path / ".l.rfm-0123456789abcdef.part"
    link.symlink_to(others[0])
    with written_beside(tmp_path / "living") as living:
        living.write_text("1")
        monkeypatch.setattr(scratch, "_swept", set())  # as another process sees it
        scratch.sweep(tmp_path)
        assert living.exists()
    assert sorted(tmp_path.iterdir()) == sorted([*others, link, tmp_path / "living"])


def test_a_folder_that_is_not_empty_and_not_ours_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "holiday.jpg").write_text("x")
    with pytest.raises(OutputError, match=r"not empty \(holiday.jpg\).*is not a folder of predictions"):
        own_folder(theirs, "a folder of predictions", "classes.json")
    ours = own_folder(tmp_path / "new", "a folder of predictions", "classes.json")
    (ours / "holiday.jpg").write_text("x")
    assert own_folder(ours, "a folder of predictions") == ours
    (theirs / "classes.json").write_text("{}")  # of an earlier release
    assert own_folder(theirs, "a folder of predictions", "classes.json") == theirs


def test_only_plain_files_of_the_names_given_are_removed_and_never_through_a_link(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    for name in ("a", "b"):
        (place / name).write_text(name)
    (tmp_path / "link").symlink_to(place)
    remove_owned(tmp_path / "link", ["a"])
    remove_owned(place, ["b", "../link", "missing"])
    assert contents(place) == ["a"] and (tmp_path / "link").is_symlink()


def test_a_lock_is_never_opened_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match="is a link"), locked(tmp_path / ".lock", "busy"):
        raise AssertionError("held")
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("exchanged", [True, False])
def test_a_folder_appears_whole_and_takes_the_place_of_the_one_before(
    exchanged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanged:
        monkeypatch.setattr(folders, "_exchanged", lambda *_: False)
    fill(tmp_path / "x", a="1", b="1")
    (tmp_path / "x" / "README.md").write_text("of a person")
    with (
        pytest.raises(ZeroDivisionError),
        whole_folder(tmp_path / "x", "a thing", OWNED.__contains__) as place,
    ):
        (place / "a").write_text("2")
        1 / 0  # noqa: B018
    assert texts(tmp_path / "x") == {"a": "1", "b": "1", "README.md": "of a person"}
    fill(tmp_path / "x", a="2")
    assert texts(tmp_path / "x") == {"a": "2", "README.md": "of a person"}
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_kill_between_two_renames_is_undone_where_folders_cannot_be_exchanged(tmp_path: Path) -> None:
    fill(tmp_path / "x", a="1")
    (tmp_path / "x").rename(tmp_path / ".x.rfm-aside")
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "x", "a thing", OWNED.__contains__):
        1 / 0  # noqa: B018
    assert texts(tmp_path / "x") == {"a": "1"}


def test_a_folder_with_anything_of_somebody_elses_a_file_or_a_link_is_not_replaced(tmp_path: Path) -> None:
    fill(tmp_path / "x", a="1")
    (tmp_path / "x" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt"):
        fill(tmp_path / "x", a="2")
    assert texts(tmp_path / "x") == {"a": "1", "notes.txt": "mine"}
    (tmp_path / "link").symlink_to(tmp_path / "x")
    with pytest.raises(OutputError, match="is a link"):
        fill(tmp_path / "link", a="2")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        fill(tmp_path / "file", a="2")
