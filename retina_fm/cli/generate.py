"""``retina-fm generate``: a photo to its synthetic angiogram."""

from __future__ import annotations

import argparse
from typing import Any

from retina_fm.cli.checks import check_model, check_one_photo

EXAMPLES = (
    "retina-fm generate photo.jpg --out angiogram.gif",
    "retina-fm generate photo.jpg --model fundus2video-half --camera 1 --out frames/",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "generate",
        help="a photo to twelve synthetic angiogram frames",
        description="Generate a synthetic angiogram. Files say in their metadata that they are synthetic.",
    )
    parser.add_argument("photo", help="a colour fundus photograph")
    parser.add_argument("--out", required=True, help="x.gif, x.mp4, x.png (a sheet), or a folder for frames")
    parser.add_argument(
        "--model", default="fundus2video", help="name, weights folder or hf-hub:OWNER/NAME (fundus2video)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (the CPU without it)")
    parser.add_argument("--no-mark", action="store_true", help="leave the word SYNTHETIC out of the picture")
    parser.add_argument(
        "--camera",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="give the frames one camera's light, tone and grain: 1 in full, 0 not at all (0)",
    )
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Generate and say where."""
    check_one_photo(arguments.photo)
    check_model(arguments.model)

    from retina_fm.models.generation import generate

    video = generate(
        arguments.photo,
        arguments.model,
        device=arguments.device,
        mark=not arguments.no_mark,
        camera=arguments.camera,
    )
    path = video.save(arguments.out)
    count, height, width = video.frames.shape
    print(f"{path}: {count} synthetic frames, {width} x {height}, by {video.model}")
    return 0
