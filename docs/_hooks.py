"""What the site needs before it is built: the packages as they are once installed, and the commands' help."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SEEN = ROOT / "build" / "docs"


def on_startup(**_: Any) -> None:
    """Lay the parts that a checkout holds beside the core where the reference looks for them."""
    shutil.rmtree(SEEN, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.csv")
    shutil.copytree(ROOT / "retina_fm", SEEN / "retina_fm", ignore=ignored)
    for part in ("adapters", "indexes", "training", "weights"):
        shutil.copytree(ROOT / part, SEEN / "retina_fm" / part, ignore=ignored)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Write each command's help where it is asked for, and unlink what lies outside the site."""
    markdown = re.sub(r"<!-- help of every command -->", lambda _: every_help(), markdown)
    folder = Path(page.file.abs_src_path).parent

    def unlinked(found: re.Match[str]) -> str:
        target = found[2].partition("#")[0]
        place = (folder / target).resolve()
        outside = (
            not place.is_relative_to(ROOT / "docs") or place.is_dir() or place.suffix in (".json", ".csv")
        )
        return f"{found[1]} (`{os.path.relpath(place, ROOT)}`)" if target and outside else found[0]

    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!\w+:)([^)\s]+)\)", unlinked, markdown)


def every_help() -> str:
    """The help of each command, as the terminal shows it at eighty columns."""
    sys.path.insert(0, str(ROOT))
    os.environ["COLUMNS"] = "80"
    main = importlib.import_module("retina_fm.cli.main")
    parser = main.build_parser()
    commands = next(action for action in parser._actions if hasattr(action, "choices") and action.choices)
    parts = []
    for name, command in commands.choices.items():
        parts.append(f"## {name}\n\n```text\n{command.format_help().rstrip()}\n```\n")
    return "\n".join(parts)
