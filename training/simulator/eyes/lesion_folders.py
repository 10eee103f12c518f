"""Folders of lesion masks, as people call them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from retina_fm.errors import ConfigError

# How people call the folders of masks.
LESION_FOLDERS = {
    "microaneurysm": ("microaneurysm", "microaneurysms", "ma"),
    "haemorrhage": ("haemorrhage", "haemorrhages", "hemorrhage", "hemorrhages", "he"),
    "hard_exudate": ("hard_exudate", "hard_exudates", "exudates", "ex"),
    "cotton_wool_spot": ("cotton_wool_spot", "cotton_wool_spots", "soft_exudate", "soft_exudates", "se"),
    "drusen": ("drusen",),
    "scar": ("scar", "scars"),
}


def _plain(name: str) -> str:
    """``1. Soft Exudates`` as ``soft_exudates``."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"^[\d\W_]+", "", name.lower())).strip("_")


def _lesion_of(folder: Path) -> str | None:
    return next((name for name, known in LESION_FOLDERS.items() if _plain(folder.name) in known), None)


def _sub_folders(folder: str | os.PathLike[str]) -> list[Path]:
    children = sorted(Path(folder).iterdir())
    return [path for path in children if path.is_dir() and not path.name.startswith((".", "__"))]


def lesion_folders(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Sub-folders of masks by type of lesion, whatever their case, spaces and leading numbers.

    Raises:
        ConfigError: no sub-folder has the name of a lesion, or two have the name of one.
    """
    found: dict[str, Path] = {}
    for child in _sub_folders(folder):
        name = _lesion_of(child)
        if name in found:
            raise ConfigError(
                f"{found[name].name!r} and {child.name!r} in {folder} are both folders of {name} masks. "
                "Merge them, or move one away."
            )
        if name is not None:
            found[name] = child
    if not found:
        raise ConfigError(
            f"{folder} has no folder named after a lesion. Name its sub-folders, for example: "
            + ", ".join(aliases[-1 if len(aliases) < 2 else 1] for aliases in LESION_FOLDERS.values())
        )
    return found


def ignored_folders(folder: str | os.PathLike[str]) -> list[Path]:
    """Sub-folders that :func:`lesion_folders` leaves out, because no lesion has their name."""
    return [child for child in _sub_folders(folder) if _lesion_of(child) is None]
