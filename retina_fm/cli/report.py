"""``retina-fm report``: a photo to one page."""

from __future__ import annotations

import argparse
from typing import Any

from retina_fm.cli.checks import check_adapter, check_index, check_model, check_photos
from retina_fm.errors import ConfigError, PictureError

EXAMPLES = (
    "retina-fm report photo.jpg --out report.html",
    "retina-fm report photo.jpg --index clinic/ --adapter grading/ --out report.html",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "report",
        help="one photo on one page: layers, angiogram, measurements, nearest pictures",
        description="Write a self-contained page: nothing in it is asked for from anywhere.",
    )
    parser.add_argument("photo", help="a colour fundus photograph")
    parser.add_argument("--out", required=True, help="the page: FILE.html")
    parser.add_argument("--index", help="folder of an index: the nearest pictures in it are shown")
    parser.add_argument("-k", type=int, default=5, help="how many of them (5)")
    parser.add_argument("--adapter", help="a classifier's or regressor's folder: prediction and heat map")
    parser.add_argument(
        "--explain", choices=("occlusion", "gradients"), default="occlusion", help="how the heat map is made"
    )
    parser.add_argument(
        "--model", default="fundus2video-half", help="one that maps vessels and anatomy (fundus2video-half)"
    )
    parser.add_argument(
        "--allow-unreliable", action="store_true",
        help="layers and numbers too that rest on maps not to be relied on; they are marked",
    )  # fmt: skip
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (the first GPU if there is one)")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the page and say where."""
    from pathlib import Path

    check_photos([arguments.photo])
    if Path(arguments.photo).is_dir():
        raise PictureError(f"{arguments.photo} is a folder; report takes one photo. Name a file in it.")
    if not arguments.out.lower().endswith((".html", ".htm")):
        raise ConfigError(f"--out {arguments.out}: a report is an .html file.")
    check_model(arguments.model)
    if arguments.adapter:
        check_adapter(arguments.adapter, ())
    if arguments.index:
        check_index(arguments.index)

    from retina_fm.reporting import write_report

    index = adapter = None
    if arguments.index:
        from retina_fm.indexes import ImageIndex
        from retina_fm.indexes.opening import find_store

        index = ImageIndex.open(find_store(arguments.index), device=arguments.device)
    if arguments.adapter:
        from retina_fm.adapters import load

        adapter = load(arguments.adapter, device=arguments.device)
    path = write_report(
        arguments.photo,
        arguments.out,
        arguments.model,
        index=index,
        adapter=adapter,
        method=arguments.explain,
        nearest=arguments.k,
        allow_unreliable=arguments.allow_unreliable,
        device=arguments.device,
    )
    print(path)
    return 0
