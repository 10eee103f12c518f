"""What the tables of shards say of themselves, and whether together they are one whole."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from retina_fm._io.parquet_seals import KEY as SEAL
from retina_fm._io.parquet_seals import check_parquet
from retina_fm.encoding.resumable import begun_parts
from retina_fm.encoding.shards import ROOT, SHARD, Shard
from retina_fm.errors import ConfigError, MergeError
from retina_fm.pictures.folders import natural_key

_FREE = {SEAL, SHARD, ROOT, "model", "licence", "retina_fm_version"}
"""What parts may say differently: weights are told by their hash, whatever name they were loaded by."""
_SHOWN = 10


@dataclass(frozen=True)
class Part:
    """A finished table of one shard.

    Attributes:
        path: of the file.
        shard: which it says it is.
        root: the folder that was divided, absolute.
        schema: its columns and all metadata.
        rows: how many.
    """

    path: Path
    shard: Shard
    root: str
    schema: pa.Schema
    rows: int

    @property
    def stated(self) -> Mapping[str, str]:
        """What has to be the same in all parts."""
        found = {key.decode(): value.decode() for key, value in self.schema.metadata.items()}
        return {key: value for key, value in found.items() if key not in _FREE}


def read_parts(paths: Sequence[Path]) -> list[Part]:
    """The parts in their order, once they are one whole: every shard once, of one model and one folder.

    Raises:
        MergeError: they are not; it names every file at fault.
    """
    parts: list[Part] = []
    faults: list[str] = []
    for path in paths:
        found = _read(path)
        if isinstance(found, Part):
            parts.append(found)
        else:
            faults.append(found)
    faults += _conflicts(parts)
    if faults:
        more = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        told = "\n  ".join(faults[:_SHOWN])
        raise MergeError(f"The parts are no whole, and nothing was written:\n  {told}{more}")
    return sorted(parts, key=lambda part: part.shard.number)


def files_of(places: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The tables that were named: files, folders of ``.parquet`` files, and patterns.

    Raises:
        MergeError: a folder or pattern has none, or nothing was named.
    """
    found: dict[Path, None] = {}
    for place in places:
        path = Path(place)
        if path.is_dir():
            inside = [one for one in path.iterdir() if one.suffix == ".parquet" and one.name[0] != "."]
        elif path.exists() or not re.search(r"[*?\[]", path.name):
            inside = [path]
        else:
            inside = list(path.parent.glob(path.name))
        if not inside:
            raise MergeError(f"{place}: no .parquet file is there. Name the tables that --shard wrote.")
        found.update(dict.fromkeys(sorted(inside, key=natural_key)))
    if not found:
        raise MergeError("No part was named. Name the tables that --shard wrote.")
    return list(found)


def _read(path: Path) -> Part | str:
    """A part, or what is wrong with it."""
    if not path.exists():
        return f"{path} is {'unfinished; run its command again' if begun_parts(path) else 'not there'}"
    if begun_parts(path):
        return f"{path} is being changed, or was when its run was ended; run its command again"
    try:
        check_parquet(path)
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
        metadata = schema.metadata or {}
        shard = Shard.read(metadata[SHARD.encode()].decode())
        root = os.path.normpath(os.path.abspath(path.parent / metadata[ROOT.encode()].decode()))  # noqa: PTH100
    except (KeyError, ConfigError):
        return f"{path} names no shard; it was written without --shard"
    except (OSError, ValueError) as error:
        return f"{path} cannot be read ({error}); remove it and run its command again"
    return Part(path, shard, root, schema, rows)


def _conflicts(parts: list[Part]) -> Iterator[str]:
    """What speaks against parts that are whole each for itself."""
    yield from _others(parts, lambda part: part.shard.of, lambda of: f"one of {of} shards")
    yield from _others(parts, lambda part: part.root, lambda root: f"of the folder {root}")
    yield from _others(
        parts, lambda part: tuple(part.schema.names), lambda names: f"with the columns {', '.join(names)}"
    )
    for key in sorted({key for part in parts for key in part.stated}):
        yield from _others(
            parts,
            lambda part, key=key: part.stated.get(key),  # type: ignore[misc]
            lambda value, key=key: f"of {key} {value}",
        )
    of_number: dict[int, list[Part]] = defaultdict(list)
    for part in parts:
        of_number[part.shard.number].append(part)
    for number, same in sorted(of_number.items()):
        if len(same) > 1:
            names = " and ".join(str(part.path) for part in same)
            yield f"{names} are all shard {number}; leave one"
    if parts:
        of = Counter(part.shard.of for part in parts).most_common(1)[0][0]
        missing = (number for number in range(1, of + 1) if number not in of_number)
        for number in itertools.islice(missing, _SHOWN):
            yield _missing(Shard(number, of), parts)
        if (more := of - len(of_number) - _SHOWN) > 0:  # counted: the file says how many, which may be any
            yield f"{more} more shards are missing"


def _others(parts: list[Part], what: Callable[[Part], object], told: Callable[..., str]) -> Iterator[str]:
    """The parts that differ from most."""
    values = [what(part) for part in parts]
    if len(set(values)) < 2:
        return
    usual = Counter(values).most_common(1)[0][0]
    for part, value in zip(parts, values, strict=True):
        if value != usual:
            made_by = (part.schema.metadata or {}).get(b"model", b"?").decode()
            yield f"{part.path} ({made_by}) is {told(value)}, most are {told(usual)}"


def _missing(shard: Shard, parts: list[Part]) -> str:
    name = _name_for(shard.number, parts)
    if name is None:
        return f"shard {shard} is missing"
    path = parts[0].path.with_name(name)
    if path in [part.path for part in parts]:
        return f"shard {shard} is missing"
    state = "unfinished" if begun_parts(path) else "missing"
    return f"shard {shard} is {state} ({path}); run its command{' again' if state == 'unfinished' else ''}"


def _name_for(number: int, parts: list[Part]) -> str | None:
    """What a shard's file would be called, where the last number in the others' names counts them."""
    widths = {1, *(len(_last_number(part.path.name)) for part in parts)}
    for offset in (0, -1):  # job arrays may count from 0
        for digits in sorted(widths):
            names = [_with_number(part.path.name, part.shard.number + offset, digits) for part in parts]
            if names == [part.path.name for part in parts] and _last_number(names[0]):
                return _with_number(names[0], number + offset, digits)
    return None


def _last_number(name: str) -> str:
    found: list[str] = re.findall(r"\d+", name)
    return found[-1] if found else ""


def _with_number(name: str, number: int, digits: int) -> str:
    """A name with its last number replaced."""
    return re.sub(r"\d+(?=\D*$)", str(number).zfill(digits), name)
