"""What can be wrong with a command before a model is loaded: told at once, for nothing here imports torch."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

from retina_fm.errors import (
    ConfigError,
    IndexNotFoundError,
    NoPicturesError,
    PictureError,
    UnknownModelError,
    nearest,
)

_INDEX_FILES = ("index.db", "manifest.json")


def check_photos(places: Iterable[str]) -> None:
    """Raises PictureError where a file, folder or pattern named on the command line is not there."""
    for place in places:
        if _there(place):
            continue
        if glob.has_magic(place):
            if next(glob.iglob(place, recursive=True), None) is None:  # noqa: PTH207
                raise NoPicturesError(
                    f"{place}: no picture matches. Quote the pattern, and check the folder."
                )
            continue
        raise NoPicturesError(
            f"{place}: there is no such file or folder. {_near(place)}Check the path and the working folder."
        )


def check_one_photo(place: str) -> None:
    """Raises PictureError where one photo is needed and something else was named."""
    check_photos([place])
    if Path(place).is_dir():
        raise PictureError(
            f"{place} is a folder; generate takes one photo at a time. Name a file in it, or run it for "
            f'each: for photo in {place}/*; do retina-fm generate "$photo" --out "$photo.gif"; done'
        )


def check_folder(place: str, option: str) -> None:
    """Raises ConfigError where an option names something that is not there."""
    if not _there(place) and not glob.has_magic(place):
        raise ConfigError(f"{option} {place}: there is no such file or folder. {_near(place)}Check the path.")


def check_file(place: str, option: str) -> None:
    """Raises ConfigError where an option names a table that is not there."""
    if not Path(place).is_file():
        what = "is a folder, not a table" if Path(place).is_dir() else "cannot be read as CSV: no such file"
        raise ConfigError(f"{option} {place} {what}. {_near(place)}Give a table in UTF-8.")


def check_training_data(places: Iterable[str]) -> None:
    """Raises RetinaError where data to train on are not there, or are photographs not yet prepared."""
    for place in places:
        check_folder(place, "--data")
        folder = Path(place)
        if not folder.is_dir() or (folder / "pairs.csv").is_file():
            continue
        if next(folder.rglob("*.eye.safetensors"), None) is None:
            raise NoPicturesError(
                f"{place} holds no prepared eyes and no pairs.csv. Photographs are prepared into a folder "
                f"of their own: retina-fm prepare {place} --out EYES, then --data EYES."
            )


def check_index(place: str) -> None:
    """Raises IndexNotFoundError where a folder holds no index, and says what makes one of what is there."""
    from retina_fm.indexes.lance_places import lance_place

    lance = lance_place(place)
    if lance is not None:
        if not lance.is_store():
            raise IndexNotFoundError(
                f"{place} holds no index. 'retina-fm index PHOTOS --store {place}' makes one."
            )
        return
    folder = Path(place)
    for one in (folder, folder / ".retina-fm-index"):
        if any((one / name).exists() for name in _INDEX_FILES):
            return
    if not folder.is_dir():
        raise IndexNotFoundError(
            f"{place} holds no index: there is no such folder. {_near(place)}'retina-fm index PHOTOS --store "
            f"{place}' makes one."
        )
    inside = any(path.is_file() for path in folder.iterdir())
    command = f"retina-fm index {place}" if inside else f"retina-fm index PHOTOS --store {place}"
    raise IndexNotFoundError(f"{place} holds no index. '{command}' makes one.")


def check_adapter(name: str, readings: Sequence[str]) -> None:
    """Raises ConfigError where a name is neither an adapter's folder nor what a model is read for."""
    if name in readings or name.startswith("hf-hub:") or Path(name).exists():
        return
    raise ConfigError(
        f"{name!r} is no adapter's folder, and nothing that the model is read for. {nearest(name, readings)} "
        "'retina-fm adapt' makes an adapter."
    )


def check_model(name: str | None) -> None:
    """Raises UnknownModelError where a path of weights is not there; names are the registry's to judge."""
    if name is None or not name.startswith((".", "/", "~")):
        return
    if not Path(name).is_dir():
        raise UnknownModelError(f"--model {name}: there is no such folder of weights. {_near(name)}")


def _there(place: str) -> bool:
    try:
        return Path(place).exists()
    except OSError:  # a name that is too long
        return False


def _near(place: str) -> str:
    """A hint where something of nearly this name lies in the same folder."""
    from difflib import get_close_matches

    path = Path(place)
    try:
        names = [one.name for one in path.parent.iterdir()] if path.name else []
    except OSError:
        return ""
    close = get_close_matches(path.name, names, n=1, cutoff=0.75)
    return f"Did you mean {path.parent / close[0]}? " if close else ""
