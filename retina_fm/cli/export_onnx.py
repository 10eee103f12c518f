"""``retina-fm export-onnx``: a model or a fitted adapter to one ONNX file."""

from __future__ import annotations

import argparse
from typing import Any

EXAMPLES = (
    "retina-fm export-onnx fundus2video --embedding-only --out embed.onnx",
    "retina-fm export-onnx grading/ --out grading.onnx",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "export-onnx",
        help="a model or a fitted adapter to an ONNX file",
        description="Write what a model or adapter computes as one ONNX file, compared with PyTorch before "
        "it is put in its place (extra 'onnx').",
    )
    parser.add_argument("name", help="a model's name, a weights folder, or an adapter's folder")
    parser.add_argument("--out", required=True, help="file to write, for example model.onnx")
    parser.add_argument("--embedding-only", action="store_true", help="leave the maps out")
    parser.add_argument("--json", action="store_true", help="report as JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Export and report."""
    from pathlib import Path

    from retina_fm.adapters import export_adapter
    from retina_fm.adapters import load as load_adapter
    from retina_fm.adapters.saving import MANIFEST
    from retina_fm.cli.main import print_json
    from retina_fm.models import load
    from retina_fm.models.onnx_export import export_onnx

    if (Path(arguments.name) / MANIFEST).is_file():
        adapter = load_adapter(arguments.name, device="cpu", dtype="float32")
        report = export_adapter(adapter, arguments.out)
    else:
        report = export_onnx(load(arguments.name), arguments.out, maps=not arguments.embedding_only)
    if arguments.json:
        print_json({**report._asdict(), "path": str(report.path)})
        return 0
    between = f"{', '.join(report.inputs)} to {', '.join(report.outputs)}"
    print(f"{report.path}: {report.size / 1e6:.1f} MB, {between}")
    print(f"ONNX Runtime differs from PyTorch by {report.difference:.0e} of the largest value")
    return 0
