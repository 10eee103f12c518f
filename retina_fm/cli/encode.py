"""``retina-fm encode``: photos to a table of embeddings."""

from __future__ import annotations

import argparse
from typing import Any


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "encode",
        help="photos to a Parquet table of embeddings",
        description="Encode a folder, a glob or single photos. A killed run continues where it was.",
    )
    parser.add_argument("photos", nargs="+", help="folders, quoted globs, or files")
    parser.add_argument("--out", required=True, help="table to write, for example emb.parquet")
    add_model_arguments(parser)
    parser.add_argument("--batch-size", type=int, help="photos a forward pass (chosen for the device)")
    parser.add_argument("--workers", type=int, help="decoding processes (chosen for the device)")
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="unreadable photos")
    parser.add_argument(
        "--signature", action="store_true", help="add the pattern of vessels, which recognises a person"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a table of another model")
    parser.add_argument("--json", action="store_true", help="report as JSON")
    parser.set_defaults(handler=run)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that every command with an encoder shares."""
    parser.add_argument(
        "--model", default="fundus2video", help="name, folder, timm/NAME or hf-hub:OWNER/NAME"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (the first GPU if there is one)")
    parser.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16")


def collect(arguments: list[str]) -> Any:
    """What was named on the command line as one collection: several folders, globs and files are joined."""
    from retina_fm.pictures import expand

    if len(arguments) == 1:
        return arguments[0]
    return [photo for argument in arguments for photo in expand(argument)]


def run(arguments: argparse.Namespace) -> int:
    """Encode and report."""
    from retina_fm.cli.main import print_json
    from retina_fm.encoding import encode_to

    report = encode_to(
        collect(arguments.photos),
        arguments.out,
        arguments.model,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        device=arguments.device,
        dtype=arguments.dtype,
        on_error=arguments.on_error,
        overwrite=arguments.overwrite,
        signature=arguments.signature,
    )
    fresh = report.rows - report.reused
    rate = fresh / report.seconds if report.seconds else 0.0
    if arguments.json:
        print_json({**report.__dict__, "photos_per_second": rate})
        return 0
    print(f"{report.path}: {report.rows} rows ({report.reused} reused, {len(report.skipped)} skipped)")
    print(f"{fresh} photos in {report.seconds:.1f} s, {rate:.2f} a second, {report.precision}")
    for name, reason in report.skipped:
        print(f"skipped {name}: {reason}")
    return 0
