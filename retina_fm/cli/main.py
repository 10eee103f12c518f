"""Entry point of ``retina-fm``: finds the subcommand, runs it, turns errors into one line and a code."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import retina_fm
from retina_fm._io.files import reporting
from retina_fm._io.progress import lines_where_nobody_watches
from retina_fm._io.terminal import escaped, safe_output, shows
from retina_fm.errors import LicenceNotice, ManifestWarning, RetinaError, SkippedPictures

COMMANDS = (
    "encode",
    "measure",
    "bounds",
    "report",
    "merge",
    "demo",
    "models",
    "convert",
    "doctor",
    "simulate",
    "prepare",
    "register",
    "pretrain",
    "export",
    "export_onnx",
    "generate",
    "index",
    "search",
    "serve",
    "evaluate",
    "manifest",
    "ratings",
    "adapt",
    "predict",
)
"""Modules of this package, each with ``add(subparsers)`` that sets ``handler``, and two ``EXAMPLES``."""

_KEEPING = frozenset(
    {"encode", "measure", "simulate", "prepare", "register", "pretrain", "index", "evaluate"}
)
"""Commands that go on where they were interrupted."""

EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand.

    Returns:
        0 when it did what it was asked, 1 when it could not, 2 for wrong usage, 130 when interrupted.
    """
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks, on the tabulator key
        import argcomplete

        argcomplete.autocomplete(parser)
    parsed = _parsed(parser, arguments)
    handler = logging.StreamHandler()
    handler.setFormatter(_Escaped("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO if parsed.verbose else logging.WARNING)
    warnings.showwarning = _show_warning
    with safe_output(), lines_where_nobody_watches():
        return _run(parsed)


def _parsed(parser: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
    """Arguments in any order: photos may follow options, which argparse alone does not take."""
    parsed, rest = parser.parse_known_args(arguments)
    photos = getattr(parsed, "photos", None)
    if rest and (not isinstance(photos, list) or any(one.startswith("-") for one in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest and photos is not None:
        photos += rest
    return parsed


def _run(parsed: argparse.Namespace) -> int:
    try:
        with reporting(Path("The output")):
            code = int(parsed.handler(parsed))
            sys.stdout.flush()
        return code
    except RetinaError as error:
        return _fail(parsed, error)
    except KeyboardInterrupt:
        kept = "; what was finished is kept" if parsed.command in _KEEPING else ""
        print(f"retina-fm: interrupted{kept}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, `| head` for example
        _leave_output()
        return EXIT_ERROR


def build_parser() -> argparse.ArgumentParser:
    """The parser with every subcommand; imports neither torch nor any model."""
    parser = argparse.ArgumentParser(
        prog="retina-fm",
        description="Features of retinal photographs. Research use; not a medical device.",
    )
    parser.add_argument("--version", action="version", version=f"retina-fm {retina_fm.__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is decided on the way")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"retina_fm.cli.{name}")
        module.add(subparsers)
        added = subparsers.choices[name.replace("_", "-")]
        added.formatter_class = _Help
        added.epilog = "\n".join(["examples:", *(f"  {example}" for example in module.EXAMPLES)])
    return parser


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    if not shows(text, sys.stdout):  # JSON has escapes of its own
        text = json.dumps(value, indent=2, default=str).replace("\x7f", "\\u007f")
    print(text)


def _leave_output() -> None:
    """Nothing more can be told on standard output: what is still to be written there goes nowhere."""
    with suppress(OSError, ValueError):  # it has no file of its own, under a test for example
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(parsed: argparse.Namespace, error: RetinaError) -> int:
    try:
        sys.stdout.flush()
    except OSError:  # a full disk behind it
        _leave_output()
    if getattr(parsed, "json", False):
        print_json({"error": type(error).__name__, "message": str(error)})
    print(escaped(f"retina-fm: {error}"), file=sys.stderr)
    return EXIT_ERROR


class _Help(argparse.HelpFormatter):
    """The usual help, with the lines of the examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return text
        return super()._fill_text(text, width, indent)


class _Escaped(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return escaped(super().format(record))


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, LicenceNotice | ManifestWarning | SkippedPictures):
        print(escaped(f"retina-fm: {message}"), file=file or sys.stderr)
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line)
        print(escaped(text), end="", file=sys.stderr)
