"""``retina-fm search``: the pictures of an index that are nearest to a photo."""

from __future__ import annotations

import argparse
from typing import Any

from retina_fm.cli.arguments import collect
from retina_fm.cli.checks import check_index, check_model, check_photos

EXAMPLES = (
    "retina-fm search photos/ query.jpg -k 5",
    "retina-fm search clinic/ query.jpg --where eye=left --exclude-same patient_id --gallery hits.html",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "search",
        help="the pictures of an index nearest to a photo",
        description="Search an index. A query that is in the index and has not changed needs no model.",
    )
    parser.add_argument("index", help="folder of the index, or of the photos that it lies in, or lance://...")
    parser.add_argument("queries", nargs="+", metavar="query", help="photos, a folder or a quoted glob")
    parser.add_argument("-k", type=int, default=10, help="how many to find (10)")
    parser.add_argument(
        "--where", action="append", metavar="CONDITION",
        help="only pictures with this metadata: eye=left, \"age>60 and label contains 'D'\"; repeat for more",
    )  # fmt: skip
    parser.add_argument(
        "--exclude-same", action="append", metavar="COLUMN",
        help="leave out what agrees with the query: patient_id, eye, ...",
    )  # fmt: skip
    parser.add_argument(
        "--include-query", action="store_true", help="let a picture of the index be found by itself"
    )
    parser.add_argument(
        "--space", choices=("embedding", "signature", "retrieval"), default="embedding",
        help="compare embeddings, patterns of vessels (the same eye), or both",
    )  # fmt: skip
    parser.add_argument("--upright", action="store_true", help="do not try the query turned and zoomed")
    parser.add_argument("--mirrored", action="store_true", help="try the query's mirror image, too")
    parser.add_argument("--exact", action="store_true", help="exact search where the index is approximate")
    parser.add_argument("--no-whiten", action="store_true", help="compare without the model's whitening")
    parser.add_argument("--gallery", help="page or sheet to look at: out.html or out.png")
    parser.add_argument("--model", help="where the index's model lies now (as the index was made without it)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (the first GPU if there is one)")
    parser.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16")
    parser.add_argument("--json", action="store_true", help="hits as JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Search and print."""
    check_index(arguments.index)
    check_photos(arguments.queries)
    check_model(arguments.model)

    from retina_fm.cli.main import print_json
    from retina_fm.indexes import ImageIndex
    from retina_fm.indexes.opening import find_store
    from retina_fm.pictures import expand

    index = ImageIndex.open(
        find_store(arguments.index),
        whiten=False if arguments.no_whiten else None,
        model=arguments.model,
        device=arguments.device,
        dtype=arguments.dtype,
    )
    queries = list(expand(collect(arguments.queries)))
    found = index.search(
        queries,
        arguments.k,
        where=arguments.where,
        exclude_same=arguments.exclude_same,
        include_query=arguments.include_query,
        exact=arguments.exact,
        space=arguments.space,
        turned=not arguments.upright,
        mirrored=arguments.mirrored,
    )
    names = [str(query) for query in queries]
    if arguments.gallery:
        from retina_fm.indexes import save_gallery

        save_gallery(found, arguments.gallery, title=f"Search in {arguments.index}")
    if arguments.json:
        print_json(
            [{"query": n, "hits": [h.as_dict() for h in hits]} for n, hits in zip(names, found, strict=True)]
        )
        return 0
    for name, hits in zip(names, found, strict=True):
        print(name)
        for hit in hits:
            notes = "  ".join(f"{key}={value}" for key, value in hit.metadata.items() if value is not None)
            why = "" if hit.why == "similar" else f"  {hit.why}"
            print(f"{hit.rank:4d}  {hit.score:.4f}  {hit.path}{why}  {notes}".rstrip())
    return 0
