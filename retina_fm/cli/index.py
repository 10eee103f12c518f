"""``retina-fm index``: photos to an index that can be searched, and the care of one."""

from __future__ import annotations

import argparse
from typing import Any

from retina_fm.cli.arguments import (
    Named,
    add_exchange_arguments,
    add_label_arguments,
    add_model_arguments,
    collect,
    table_of,
)
from retina_fm.cli.checks import check_file, check_folder, check_index, check_model, check_photos

EXAMPLES = (
    "retina-fm index photos/",
    "retina-fm index --labels labels.csv --images photos/ --store clinic/ --duplicates",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "index",
        help="photos to an index that finds similar eyes",
        description="Build an index of photos, or bring it up to date: only new and changed photos are "
        "encoded. A killed run continues where it was.",
    )
    parser.add_argument(
        "photos",
        nargs="*",
        help="a folder; or with --store quoted globs, files, folders, or a .parquet table of embeddings",
    )
    parser.add_argument(
        "--store",
        help="folder of the index (.retina-fm-index in the folder of photos), or lance://FOLDER-OR-URL",
    )
    add_label_arguments(parser)
    add_exchange_arguments(parser, bounds=False)
    parser.add_argument(
        "--metadata", help="CSV or Parquet with a column path, relative to it or to the photos"
    )
    parser.add_argument(
        "--metric", default="cosine", choices=("cosine", "dot"), help="how embeddings compare"
    )
    parser.add_argument(
        "--no-whiten", action="store_true", help="leave out the whitening that the model ships"
    )
    parser.add_argument(
        "--no-signature", action="store_true",
        help="leave out the signatures (patterns of vessels), which recognise a person",
    )  # fmt: skip
    add_model_arguments(parser)
    parser.set_defaults(model=None)  # that of the index, or the released one
    parser.add_argument("--batch-size", type=int, help="photos a forward pass (chosen for the device)")
    parser.add_argument("--workers", type=int, help="decoding processes (chosen for the device)")
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="unreadable photos")
    parser.add_argument("--wait", type=float, default=0.0, help="seconds to wait for another writer")
    care = parser.add_mutually_exclusive_group()
    care.add_argument("--verify", action="store_true", help="read every byte and say what is wrong")
    care.add_argument("--rebuild", action="store_true", help="save what can be read, make index.faiss anew")
    care.add_argument("--compact", action="store_true", help="delete what was removed for good")
    care.add_argument(
        "--duplicates", action="store_true", help="list pictures that occur twice, nearly, or show one eye"
    )
    care.add_argument("--map", metavar="FILE", help="page (.html) of all pictures in two dimensions")
    parser.add_argument("--colour", "--color", metavar="COLUMN", help="metadata that --map is coloured by")
    parser.add_argument("--map-method", choices=("tsne", "umap"), default="tsne", help="of --map (tsne)")
    parser.add_argument("--threshold", type=float, default=0.999, help="cosine of --duplicates (0.999)")
    parser.add_argument(
        "--false-accepts", type=float, default=1e-5, metavar="RATE",
        help="a comparison, at which --duplicates takes two pictures for one eye (1e-5)",
    )  # fmt: skip
    parser.add_argument("--upright", action="store_true", help="--duplicates without turns and zooms")
    parser.add_argument("--out", metavar="FILE", help="table (.csv) of the pairs that --duplicates found")
    parser.add_argument("--gallery", help="page or sheet (.html, .png) of the duplicates found")
    parser.add_argument("--json", action="store_true", help="report as JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Build, or do what was asked with an index that is there."""
    from retina_fm.errors import ConfigError

    caring = arguments.verify or arguments.rebuild or arguments.compact
    found = _named(arguments)
    looking = arguments.duplicates or arguments.map
    if caring or (looking and found is None):
        check_index(arguments.store or arguments.photos[0])
    elif found is None:
        raise ConfigError(
            "Name photos to index, or say --verify, --rebuild, --compact, --duplicates or --map."
        )
    from retina_fm.indexes.opening import default_store

    place = arguments.images if arguments.labels else (arguments.photos or [None])[0]
    store = arguments.store or default_store(place)
    if arguments.verify:
        return _verify(arguments, store)
    if arguments.rebuild:
        return _rebuild(arguments, store)
    if arguments.compact:
        return _compact(arguments, store)
    if found is not None:
        _build(arguments, found, store)
    if arguments.map:
        return _map(arguments, store)
    return _duplicates(arguments, store) if arguments.duplicates else 0


def _named(arguments: argparse.Namespace) -> Named | None:
    """The photos to index with what a table says of them; None where an index is to be cared for.

    Raises:
        ConfigError: no place for the index, or a table that cannot be read.
        PictureError: a photo that is not there.
    """
    from retina_fm.errors import ConfigError
    from retina_fm.pictures.photo_tables import is_photo_table

    check_photos(arguments.photos)
    check_model(arguments.model)
    if arguments.metadata:
        check_file(arguments.metadata, "--metadata")
    if arguments.images:
        check_folder(arguments.images, "--images")
    if arguments.labels:
        if arguments.photos and not arguments.images:
            arguments.images = arguments.photos[0]
        if not arguments.store and not arguments.images:
            raise ConfigError("Say with --store DIR where the index is to lie, or name the photos' folder.")
        return table_of(arguments.labels, arguments.images, arguments.column)
    if not arguments.photos and arguments.images:
        arguments.photos = [arguments.images]
    if not arguments.store and (len(arguments.photos) != 1 or is_photo_table(arguments.photos[0])):
        raise ConfigError("Name one folder of photos, or the index with --store.")
    return Named(collect(arguments.photos), {}, {}) if arguments.photos else None


def _metadata(found: Named) -> list[dict[str, str | None]] | None:
    """Rows of a table of labels as an index takes them, each with the path of its photo."""
    if not found.columns:
        return None
    names = [name for name in found.columns if name != "name"]
    cells = zip(*(found.columns[name] for name in names), strict=True) if names else [()] * len(found.photos)
    return [
        {"path": path, **{name: cell or None for name, cell in zip(names, row, strict=True)}}
        for path, row in zip(found.photos, cells, strict=True)
    ]


def _build(arguments: argparse.Namespace, photos: Named, store: Any) -> None:
    from retina_fm.cli.main import print_json
    from retina_fm.indexes import index
    from retina_fm.indexes.opening import DEFAULT_MODEL

    found = index(
        photos.photos,
        arguments.model or DEFAULT_MODEL,
        metric=arguments.metric,
        store=store,
        metadata=arguments.metadata or _metadata(photos),
        whiten=False if arguments.no_whiten else None,
        signature=False if arguments.no_signature else None,
        on_error=arguments.on_error,
        wait=arguments.wait,
        device=arguments.device,
        dtype=arguments.dtype,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        pseudonymise=arguments.pseudonymise,
    )
    report = found.report
    if arguments.duplicates or arguments.map:
        return
    if arguments.json:
        print_json({"store": str(store), **report.__dict__, "recall": found.manifest.recall})
        return
    print(
        f"{store}: {report.total} pictures ({report.unchanged} unchanged, {report.encoded} encoded, "
        f"{report.copied} known by content, {report.replaced} replaced, {report.removed} removed, "
        f"{len(report.skipped)} skipped)"
    )
    for name, reason in report.skipped:
        print(f"skipped {name}: {reason}")
    if found.manifest.recall:
        print(f"approximate search: recall@10 {found.manifest.recall['recall']:.3f} against exact search")


def _verify(arguments: argparse.Namespace, store: Any) -> int:
    from pathlib import Path

    from retina_fm.cli.main import print_json
    from retina_fm.indexes import verify
    from retina_fm.indexes.lance_places import lance_place

    faults = verify(lance_place(store) or Path(store))
    if arguments.json:
        print_json({"store": str(store), "faults": faults})
    else:
        print("\n".join(faults) if faults else f"{store}: every byte is as it was written")
    return 1 if faults else 0


def _rebuild(arguments: argparse.Namespace, store: Any) -> int:
    from pathlib import Path

    from retina_fm.cli.main import print_json
    from retina_fm.errors import ConfigError
    from retina_fm.indexes import rebuild
    from retina_fm.indexes.lance_places import lance_place

    if lance_place(store) is not None:
        raise ConfigError(
            f"--rebuild is for folders with index.db; {store} keeps versions instead. Build it again in "
            "another store from its photos or its table."
        )
    report = rebuild(Path(store), arguments.wait)
    if arguments.json:
        print_json({"store": str(store), **report.__dict__})
        return 0
    print(f"{store}: {report.rows} pictures, {report.lost} lost; index.faiss was made anew")
    for name in report.dropped:
        print(f"dropped {name}: it was damaged; give metadata again with --metadata")
    if report.lost:
        print("run retina-fm index with the photos again: those that were lost are encoded anew")
    return 0


def _compact(arguments: argparse.Namespace, store: Any) -> int:
    from retina_fm.cli.main import print_json
    from retina_fm.indexes import ImageIndex

    found = ImageIndex.open(store)
    found.compact(arguments.wait)
    if arguments.json:
        print_json({"store": str(store), "total": len(found)})
    else:
        print(f"{store}: {len(found)} pictures, what was removed is gone for good")
    return 0


def _map(arguments: argparse.Namespace, store: Any) -> int:
    from retina_fm.cli.main import print_json
    from retina_fm.indexes import ImageIndex
    from retina_fm.indexes.map import save_map

    found = ImageIndex.open(store)
    page = save_map(found, arguments.map, colour=arguments.colour, method=arguments.map_method)
    if arguments.json:
        print_json({"store": str(store), "map": str(page), "total": len(found)})
    else:
        print(f"{page}: a map of {len(found)} pictures")
    return 0


def _duplicates(arguments: argparse.Namespace, store: Any) -> int:
    from collections import Counter

    from retina_fm.cli.main import print_json
    from retina_fm.indexes import ImageIndex
    from retina_fm.indexes.pair_tables import pair_row, save_pair_gallery, write_pairs

    found = ImageIndex.open(store)
    pairs, eyes = found.duplicates(arguments.threshold), None
    if found.manifest.signature is not None:
        eyes = found.same_eyes(arguments.false_accepts, turned=not arguments.upright)
        known = {(pair.first, pair.second) for pair in pairs}
        pairs += [pair for pair in eyes.pairs if (pair.first, pair.second) not in known]
    if arguments.out:
        write_pairs(pairs, arguments.out)
    if arguments.gallery:
        save_pair_gallery(pairs, arguments.gallery, f"Duplicates in {store}")
    if arguments.json:
        print_json([pair_row(pair) for pair in pairs])
        return 0
    for pair in pairs:
        crossing = [name for name in ("split", "patient_id", "label") if pair.differs_in(name)]
        note = f"  (another {', another '.join(crossing)})" if crossing else ""
        print(f"{pair.why}  {pair.first}  {pair.second}{note}")
    kinds = Counter(pair.kind for pair in pairs)
    print(
        f"{len(pairs)} pairs"
        + (f" ({', '.join(f'{n} {kind}' for kind, n in kinds.items())})" if pairs else "")
    )
    if eyes is None:
        print("the index holds no signatures: other photographs of an eye were not looked for")
        return 0
    unseen = len(eyes.without_signature)
    print(
        f"{eyes.comparisons:,} comparisons at {eyes.false_accepts:.0e}: {eyes.expected_false:.1f} pairs of "
        f"different eyes are to be expected; {unseen} pictures show no vessels to compare"
    )
    return 0
