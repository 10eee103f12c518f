"""Folders that we write: only into what is empty or ours, and whole where they are one thing."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from retina_fm._io.files import sync_folder, write_output
from retina_fm._io.scratch import hidden_name, is_scratch, scratch_folder
from retina_fm.errors import OutputError

MARKER = ".retina-fm"
"""A small file in a folder that was empty when we began to write into it."""
_NOISE = (".DS_Store", "Thumbs.db", "desktop.ini")  # that file managers leave
_ASIDE = ".rfm-aside"
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS alike
_HERE = {"linux": -100, "darwin": -2}  # AT_FDCWD


def contents(folder: Path) -> list[str]:
    """Names in a folder, without scratch of ours and what file managers leave; empty where it is not there.

    Raises:
        OSError: it is a file, or cannot be read.
    """
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  names alone
    except FileNotFoundError:
        return []
    return [name for name in names if not is_scratch(name) and name not in _NOISE]


def own_folder(path: str | os.PathLike[str], what: str, *signs: str | re.Pattern[str]) -> Path:
    """A folder to write several files into, made where it is missing, and marked as ours.

    Args:
        path: of the folder.
        what: it is, as in "a folder of predictions".
        signs: names, or patterns of names, any of which says that an earlier release wrote it.

    Raises:
        OutputError: it cannot be made, is a file, or holds something and none of the signs.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = contents(folder)
    except OSError as error:
        why = "is a file and" if folder.is_file() else f"({error})"
        raise OutputError(
            f"{folder} {why} cannot be the output folder. Give a folder that can be made and written."
        ) from error
    if MARKER in found and _is_plain(folder / MARKER):
        return folder
    if found and not any(_matches(name, signs) for name in found):
        raise OutputError(
            f"{folder} is not empty ({', '.join(found[:3])}) and is not {what}. Give a new folder, so that "
            "nothing in this one is replaced."
        )
    write_output(folder / MARKER, f"retina_fm: {what}\n".encode())
    return folder


@contextmanager
def whole_folder(
    path: str | os.PathLike[str], what: str, owns: Callable[[str], bool], keeps: Sequence[str] = ()
) -> Iterator[Path]:
    """A folder to fill that takes the place of ``path`` when the block ends well: all of it or nothing.

    One that is there is exchanged in one step where the system can (Linux, macOS); elsewhere it moves aside
    first, and returns should the new one not follow.

    Args:
        path: of the folder.
        what: it is, as in "an adapter".
        owns: whether a file of that name is one that we write; a folder with any other is refused.
        keeps: names of such files that stay where this call does not write them.

    Raises:
        OutputError: something else is there.
        OSError: it cannot be written.
    """
    final = Path(path)
    check_replaceable(final, what, owns)
    final = final.absolute()
    final.parent.mkdir(parents=True, exist_ok=True)
    _return_aside(final)
    with scratch_folder(final) as scratch:
        yield scratch
        for name in keeps:
            if _is_plain(final / name) and not (scratch / name).exists():
                shutil.copyfile(final / name, scratch / name)
        for entry in scratch.iterdir():
            with entry.open("rb") as stream:
                os.fsync(stream.fileno())
        sync_folder(scratch)
        check_replaceable(final, what, owns)  # again: minutes may have passed
        _put(scratch, final)
        sync_folder(final.parent)


def check_replaceable(path: Path, what: str, owns: Callable[[str], bool]) -> None:
    """Refuse what :func:`whole_folder` would not replace.

    Raises:
        OutputError: a file or a link, or a folder with files that we do not write.
    """
    if path.is_symlink():
        raise OutputError(f"{path} is a link; {what} is written where it lies. Name that place.")
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file; {what} is a folder. Choose another one.")
    try:
        found = contents(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be read ({error}). Choose another folder.") from error
    other = [name for name in found if not owns(name) or not _is_plain(path / name)]
    if other:
        raise OutputError(
            f"{path} holds what is not part of {what} ({', '.join(other[:3])}). Choose a new folder, so that "
            "nothing of yours is replaced."
        )


def remove_owned(folder: Path, names: Iterable[str]) -> None:
    """Remove plain files of these names from a folder, unless the folder is a link."""
    if folder.is_symlink():
        return
    for name in names:
        if Path(name).name == name and _is_plain(folder / name):
            (folder / name).unlink(missing_ok=True)


def refuse_link(folder: Path) -> None:
    """Refuse a sub-folder of ours that a link stands for: what we write must stay in the folder named.

    Raises:
        OutputError: it is a link.
    """
    if folder.is_symlink():
        raise OutputError(f"{folder} is a link, and nothing is written through links. Remove it.")


def _matches(name: str, signs: tuple[str | re.Pattern[str], ...]) -> bool:
    return any(name == sign if isinstance(sign, str) else bool(sign.fullmatch(name)) for sign in signs)


def _is_plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _put(scratch: Path, final: Path) -> None:
    """Give a finished folder its name; the one before it is left under the scratch name, or removed."""
    if not os.path.lexists(final):
        scratch.rename(final)
        return
    if _exchanged(scratch, final):
        return
    aside = final.with_name(hidden_name(final.name, _ASIDE))
    final.rename(aside)
    try:
        scratch.rename(final)
    except OSError:
        aside.rename(final)
        raise
    with suppress(OSError):
        aside.rename(scratch)  # to be removed as scratch


def _return_aside(final: Path) -> None:
    """Undo what a kill left between two renames, where the system cannot exchange folders."""
    aside = final.with_name(hidden_name(final.name, _ASIDE))
    if aside.is_dir() and not aside.is_symlink() and not os.path.lexists(final):
        aside.rename(final)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether two names were exchanged in one step."""
    here = _HERE.get(sys.platform)
    function = {"linux": "renameat2", "darwin": "renameatx_np"}.get(sys.platform, "")
    try:
        rename = getattr(ctypes.CDLL(None, use_errno=True), function)
    except (AttributeError, OSError):
        return False
    rename.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), _EXCHANGE) == 0)
