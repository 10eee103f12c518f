"""One holds a lock at a time."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from retina_fm._io.locks import locked
from retina_fm.errors import OutputError


def test_a_lock_is_held_once_and_given_back(tmp_path: Path) -> None:
    lock = tmp_path / "new" / ".lock"
    with locked(lock, "busy"), pytest.raises(OutputError, match="busy"), locked(lock, "busy"):
        raise AssertionError("two hold it")
    with locked(lock, "busy"):
        assert lock.parent.is_dir()


def test_a_lock_is_given_back_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path / ".lock", "busy"):
        1 / 0  # noqa: B018
    with locked(tmp_path / ".lock", "busy"):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match="cannot be written or locked"),
        locked(tmp_path / "file" / ".lock", "busy"),
    ):
        raise AssertionError("held")


def test_a_disk_that_cannot_lock_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refused)
    refusal = pytest.raises(OutputError, match=r"No locks available.*a disk of this machine")
    with refusal, locked(tmp_path / "l", "busy"):
        pass
