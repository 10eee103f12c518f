"""``retina-fm convert``: a published checkpoint to a weights folder."""

from __future__ import annotations

import argparse
from typing import Any

EXAMPLES = (
    "retina-fm convert RETFound_cfp_weights.pth --layout retfound --out weights/retfound",
    "retina-fm convert 60_net_G.pth --layout pix2pixhd --encoder-blocks 3 --out weights/mine",
)

LAYOUTS = (
    *("pix2pixhd", "flair", "mirage", "mirage-oct", "visionfm", "visionfm-oct"),
    *("retfound", "retfound-untrained-norm", "retfound-oct", "retfound-dinov2"),
    *("retfound-green", "retfound-green-class-token", "retfound-green-all-tokens"),
)
"""Told here as well, so that ``--help`` needs no torch."""


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "convert",
        help="a published checkpoint to a weights folder",
        description="Reads a pickle of plain tensors or safetensors; code in it is never run. Every tensor "
        "must match.",
    )
    parser.add_argument("checkpoint", help=".pth, .pt, .bin or .safetensors")
    parser.add_argument("--layout", required=True, choices=LAYOUTS, help="which network it belongs to")
    parser.add_argument("--out", required=True, help="weights folder to write")
    parser.add_argument("--name", help="of the model")
    parser.add_argument(
        "--encoder-blocks", type=int, default=3, help="residual blocks that belong to the encoder (pix2pixhd)"
    )
    parser.add_argument("--licence", default="unknown", help="of the checkpoint (pix2pixhd)")
    parser.add_argument("--json", action="store_true", help="report as JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Convert and report."""
    from retina_fm.cli.main import print_json
    from retina_fm.models.convert import convert

    config = convert(
        arguments.checkpoint,
        arguments.out,
        layout=arguments.layout,
        name=arguments.name,
        encoder_blocks=arguments.encoder_blocks,
        licence=arguments.licence,
    )
    matched = config.provenance["matched_tensors"]
    if arguments.json:
        print_json({"out": arguments.out, "matched_tensors": matched, "sha256": config.sha256})
        return 0
    print(f"{arguments.out}: {matched} of {matched} tensors matched, licence {config.card.licence}")
    print(f"Load it with: retina_fm.load({arguments.out!r})")
    return 0
