"""``retina-fm manifest``: the official download of a data set to one table, and an audit of such tables."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

EXAMPLES = (
    "retina-fm manifest list",
    "retina-fm manifest --audit idrid.csv rfmid2.csv --out pairs.csv --gallery pairs.html",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "manifest",
        help="the official download of a data set to one table",
        description="Writes path, label or mask, patient, eye, split and modality of a public data set's "
        "pictures, for evaluate and adapt. Pictures stay where they are. With --audit: which pictures of one "
        "or several sets show one eye, across parts and sets, where no patients are named.",
    )
    parser.add_argument("name", nargs="?", help="for example idrid; 'list' names all")
    parser.add_argument("folder", nargs="?", help="that the download was unpacked into")
    parser.add_argument("--out", help="table to write (manifest.csv in the folder); of --audit its pairs")
    group = parser.add_argument_group("audit")
    group.add_argument(
        "--audit", nargs="+", metavar="SET",
        help="tables with a column path, or folders of pictures; NAME=TABLE to call one so",
    )  # fmt: skip
    group.add_argument(
        "--false-accepts", type=float, default=1e-5, metavar="RATE",
        help="a comparison, at which two pictures are taken for one eye (1e-5)",
    )  # fmt: skip
    group.add_argument("--upright", action="store_true", help="do not try pictures turned and zoomed")
    group.add_argument("--gallery", help="page (.html) of the pairs")
    group.add_argument("--cache", help="folder that keeps fingerprints and signatures (nothing is kept)")
    group.add_argument("--workers", type=int, help="processes that read pictures (one a core)")
    group.add_argument("--json", action="store_true", help="pairs as JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the table and say what is in it."""
    from retina_fm._io.label_tables import patients_in_words
    from retina_fm.errors import ConfigError
    from retina_fm.evaluation.datasets import READERS, make_manifest
    from retina_fm.evaluation.manifest import read_manifest

    if arguments.audit:
        return _audit(arguments)
    if arguments.name is None:
        raise ConfigError("Name a data set ('list' names all), or say --audit with tables or folders.")
    if arguments.name == "list":
        for name, reader in READERS.items():
            print(f"{name:<18} {(reader.__doc__ or '').strip().splitlines()[0]}")
        return 0
    if arguments.folder is None:
        raise ConfigError("Give the folder that the download was unpacked into.")
    table = make_manifest(arguments.name, arguments.folder, arguments.out)
    manifest = read_manifest(table)
    named = "patients not named"
    if manifest.has_patients:
        named = patients_in_words([row.patient for row in manifest.rows])
    print(f"{table}: {len(manifest.rows)} pictures, {named}")
    labels = Counter(row.label for row in manifest.rows)
    if set(labels) != {""}:
        shown = (f"{name or 'none given'} ({count})" for name, count in sorted(labels.items()))
        print(f"labels: {', '.join(shown)}")
    return 0


def _audit(arguments: argparse.Namespace) -> int:
    from retina_fm.cli.main import print_json
    from retina_fm.errors import ConfigError
    from retina_fm.evaluation.audit import audit, in_words, pair_rows, save_audit_gallery, write_pairs

    if arguments.name is not None:
        raise ConfigError(f"{arguments.name} and --audit: write the manifest first, then audit it.")
    found = audit(
        [_set(text) for text in arguments.audit],
        arguments.false_accepts,
        turned=not arguments.upright,
        cache=arguments.cache,
        workers=arguments.workers,
    )
    if arguments.out:
        write_pairs(found, arguments.out)
    if arguments.gallery:
        save_audit_gallery(found, arguments.gallery)
    if arguments.json:
        print_json(
            {
                "pictures": found.pictures, "pairs": pair_rows(found), "comparisons": found.comparisons,
                "false_accepts": found.false_accepts, "expected_false": found.expected_false,
                "without_signature": found.without_signature,
            }
        )  # fmt: skip
        return 0
    for pair in found.pairs:
        if not pair.known:
            crossing = f"  (another {', another '.join(pair.crosses)})" if pair.crosses else ""
            one, other = f"{pair.first_set}/{pair.first.name}", f"{pair.second_set}/{pair.second.name}"
            print(f"{pair.why}  {one}  {other}{crossing}")
    print("\n".join(in_words(found)))
    return 0


def _set(text: str) -> Any:
    """A table or a folder as a data set."""
    from pathlib import Path

    from retina_fm._io.label_tables import bases_of, read_label_table
    from retina_fm.cli.checks import check_file
    from retina_fm.evaluation.manifest import folder_manifest, read_manifest

    name, equals, place = text.partition("=")
    given = Path(place if equals else text)
    if given.is_dir():
        return folder_manifest(given, name=name if equals else given.resolve().name)
    check_file(str(given), "--audit")
    rows = read_label_table(given).rows
    first = rows[0].get("path", "") if rows else ""
    base = next((base for base in bases_of(given) if (base / first).is_file()), given.parent)
    images = "" if base == given.parent else base.name
    return read_manifest(given, name=name if equals else given.resolve().parent.name, images=images)
