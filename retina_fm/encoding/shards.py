"""One part of N of a folder of photos, told by their names: what one of N machines works on."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retina_fm.encoding.rows import name_in
from retina_fm.errors import ConfigError
from retina_fm.pictures import describe, is_single
from retina_fm.pictures.folders import list_folder, list_pattern
from retina_fm.pictures.sources import each_of

SHARD, ROOT = "shard", "shard_root"
"""What a part's metadata call its shard, and the folder that names are relative to (from the part's own)."""
_WRITTEN = re.compile(r"(\d+)\s*/\s*(\d+)")


@dataclass(frozen=True)
class Shard:
    """One of N parts.

    Attributes:
        number: from 1 to ``of``.
        of: how many parts there are.
    """

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def read(cls, shard: str | tuple[int, int]) -> Shard:
        """``"3/7"`` or ``(3, 7)``: the third of seven.

        Raises:
            ConfigError: it is written otherwise, or there is no such part.
        """
        pair = _WRITTEN.fullmatch(shard.strip()) if isinstance(shard, str) else None
        parts = (int(pair[1]), int(pair[2])) if pair else shard
        whole = isinstance(parts, tuple) and len(parts) == 2 and all(type(part) is int for part in parts)
        if not whole or not 1 <= parts[0] <= parts[1]:  # type: ignore[operator]
            raise ConfigError(
                f"shard is {shard!r}; write I/N with I from 1 to N: '3/7' is the third of seven parts."
            )
        return cls(*parts)

    def holds(self, name: str) -> bool:
        """Whether a photo belongs here: by the SHA-256 of its name, so that a new photo moves no other.

        Args:
            name: path from the folder that was divided, with ``/`` between its parts.
        """
        digest = hashlib.sha256(name.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.number - 1

    def photos(self, photos: Any) -> list[Any]:
        """The photos of a folder or pattern that belong here, in their order; the others take no memory.

        A file with several belongs to one shard, with all of its frames.

        Raises:
            ConfigError: it is neither.
            NoPicturesError: there is no picture at all; a shard without one is an empty list.
        """
        root = root_of(photos)

        def wanted(path: str) -> bool:
            return self.holds(name_in(path, root))

        if os.path.isdir(photos):  # noqa: PTH112
            return each_of(list_folder(root, wanted))
        return each_of(list_pattern(os.fspath(photos), wanted))

    def stated(self, photos: Any, folder: Path) -> Mapping[str, str]:
        """What the metadata of a part in ``folder`` say."""
        return {SHARD: str(self), ROOT: name_in(root_of(photos), folder)}


def root_of(photos: Any) -> Path:
    """The folder that names are relative to: the one given, or what a pattern begins with.

    Raises:
        ConfigError: photos that are neither a folder nor a pattern.
    """
    if not isinstance(photos, str | os.PathLike) or is_single(photos):
        raise ConfigError(
            f"{describe(photos)}: shards divide one folder or one pattern, whose files have an order and a "
            "name. Divide a list yourself, or put the photos (links to them will do) into one folder."
        )
    if os.path.isdir(photos):  # noqa: PTH112  Path raises on names that os.path answers for
        return Path(photos)
    parts = Path(photos).parts
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:fixed])
