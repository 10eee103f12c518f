"""Arguments that mean the same in every command: photos, models, and tables of labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from retina_fm.cli.checks import check_file, check_folder, check_photos
from retina_fm.errors import ConfigError


class Named(NamedTuple):
    """The photos that a command was given.

    Attributes:
        photos: a folder or pattern as it was written, or a list of photos.
        columns: of the table of labels, a value a photo; ``name`` is the path as the table has it.
        told: of these columns, what is said of each photo itself (eye, patient, day), and its id.
    """

    photos: Any
    columns: dict[str, list[str]]
    told: dict[str, list[str]]


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that every command with an encoder shares."""
    parser.add_argument(
        "--model", default="fundus2video", help="name, folder, timm/NAME or hf-hub:OWNER/NAME (fundus2video)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (the first GPU if there is one)")
    parser.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16")


def add_label_arguments(
    parser: argparse.ArgumentParser, *old: str, column: bool = True, columns: bool = True
) -> None:
    """``--labels FILE --column NAME --images DIR``.

    Args:
        parser: of the command.
        old: further spellings of ``--labels``.
        column: whether columns may be named; not where none goes into what is written.
        columns: whether several may.
    """
    parser.add_argument(
        "--labels",
        *old,
        metavar="FILE",
        dest="labels",
        help="table with a column path, which names the photos",
    )
    if column:
        parser.add_argument(
            "--column",
            metavar="NAME",
            action="append" if columns else "store",
            help="of the table; repeat for more (all without it)" if columns else "of the labels (label)",
        )
    else:
        parser.set_defaults(column=None)
    parser.add_argument(
        "--images", metavar="DIR", help="folder that the table's paths are relative to (the table's own)"
    )


def add_exchange_arguments(parser: argparse.ArgumentParser, *, bounds: bool = True) -> None:
    """``--pseudonymise KEYFILE``, and ``--bounds FILE`` where the view is cut anew."""
    parser.add_argument(
        "--pseudonymise", metavar="KEYFILE", help="put patients' ids behind a hash with the key of this file"
    )
    if bounds:
        add_bounds_argument(parser)


def add_bounds_argument(parser: argparse.ArgumentParser) -> None:
    """``--bounds FILE``."""
    parser.add_argument(
        "--bounds", metavar="FILE", help="crop bounds by id (fundusprep's CSV) instead of our own search"
    )


def add_shard_argument(parser: argparse.ArgumentParser) -> None:
    """``--shard I/N``."""
    parser.add_argument(
        "--shard", metavar="I/N", help="part I of N of a folder, by the photos' names; merge joins the tables"
    )


def check_shard(arguments: argparse.Namespace) -> None:
    """Raises ConfigError where ``--shard`` is no part of a whole, or not of one folder or pattern."""
    from retina_fm.encoding.shards import Shard

    if arguments.shard is None:
        return
    Shard.read(arguments.shard)
    if len(arguments.photos) != 1 or getattr(arguments, "labels", None):
        raise ConfigError("--shard divides one folder or one quoted pattern; name that alone.")


def collect(arguments: list[str]) -> Any:
    """What was named on the command line as one collection: several folders, globs and files are joined."""
    from retina_fm.pictures import expand

    if len(arguments) == 1:
        return arguments[0]
    return [photo for argument in arguments for photo in expand(argument)]


def named(arguments: argparse.Namespace) -> Named:
    """The photos of a command with ``photos`` and the arguments of :func:`add_label_arguments`.

    Raises:
        PictureError: one is not there.
        ConfigError: no photos; a table that cannot be read, or without such a column; photos twice over.
    """
    check_photos(arguments.photos)
    images = arguments.images
    if images:
        check_folder(images, "--images")
    if not arguments.labels:
        photos = arguments.photos or ([images] if images else [])
        if not photos:
            raise ConfigError("Name photos, or a table of them with --labels FILE.")
        if arguments.column:
            raise ConfigError(f"--column {arguments.column[0]} is of a table: add --labels FILE.")
        return Named(collect(photos), {}, {})
    if arguments.photos and not images and len(arguments.photos) == 1 and Path(arguments.photos[0]).is_dir():
        images = arguments.photos[0]
    elif arguments.photos:
        raise ConfigError("Name photos, or a table of them with --labels FILE and --images DIR; not both.")
    return table_of(arguments.labels, images, arguments.column)


def named_with_rows(arguments: argparse.Namespace) -> Named:
    """:func:`named`, where each photo knows what the table says of it."""
    from retina_fm.pictures.tags import with_rows

    found = named(arguments)
    return found._replace(photos=with_rows(found.photos, found.told))


def table_of(labels: str, images: str | None, column: str | list[str] | None = None) -> Named:
    """The photos that a table names, and its columns.

    Raises:
        ConfigError: it cannot be read, has no rows, no column ``path``, or not the column asked for.
        NoPicturesError: a photo is not there.
    """
    from retina_fm._io.label_tables import bases_of, known_name, placed, read_label_table
    from retina_fm.pictures.photo_tables import CARRIED

    check_file(labels, "--labels")
    table = read_label_table(labels)
    asked = [column] if isinstance(column, str) else column or []
    wanted = [one if one in table.columns else known_name(one) for one in asked]
    for name in ("path", *wanted):
        if name not in table.columns:
            there = ", ".join(table.columns) or "no rows"
            raise ConfigError(f"{labels} has no column {name!r}; it has {there}. It needs a column path.")
    if not table.rows:
        raise ConfigError(f"{labels} has no rows below its header.")
    bases = bases_of(Path(labels), images)
    paths = [placed(row["path"], bases) for row in table.rows]
    lost = [line for line, path in zip(table.lines, paths, strict=True) if not path.exists()]
    if lost:
        first = paths[table.lines.index(lost[0])]
        check_photos_of(labels, lost, first, bases)
    kept = [one for one in table.columns if one != "path" and (not wanted or one in wanted)]
    columns = {"name": [row["path"] for row in table.rows]}
    columns.update({one: [row[one] for row in table.rows] for one in kept})
    told = {
        known: [row[one] for row in table.rows]
        for one in table.columns
        for known in CARRIED
        if one.casefold() == known and (one in kept or known == "id")
    }
    return Named([str(path) for path in paths], columns, told)


def check_photos_of(labels: str, lines: list[int], first: Path, bases: list[Path]) -> None:
    """Raises NoPicturesError for the lines of a table whose photos are not there."""
    from retina_fm.errors import NoPicturesError

    more = f" and {len(lines) - 1} more lines" if len(lines) > 1 else ""
    raise NoPicturesError(
        f"{labels}, line {lines[0]}{more}: {first} is not there. Paths are looked for in "
        f"{', '.join(map(str, bases))}; --images DIR names another folder."
    )
