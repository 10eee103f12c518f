"""``retina-fm models``: what can be loaded, and under which licence."""

from __future__ import annotations

import argparse
from typing import Any

EXAMPLES = (
    "retina-fm models",
    "retina-fm models --json",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("models", help="models that can be loaded, and their licences")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the registry."""
    from retina_fm.cli.main import print_json
    from retina_fm.models import list_models

    models = list_models()
    if arguments.json:
        print_json([model.__dict__ for model in models])
        return 0
    width = max(len(model.name) for model in models)
    for model in models:
        state = "ready" if model.folder else "no weights"
        mark = " (restricted)" if model.restricted else ""
        print(f"{model.name:<{width}}  {state:<10}  {model.licence}{mark}")
        print(f"{'':<{width}}  {model.about}")
    print("\nAlso: timm/NAME, hf-hub:OWNER/NAME, or the path of a weights folder.")
    return 0
