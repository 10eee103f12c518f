"""``retina-fm doctor``: is this installation sound?"""

from __future__ import annotations

import argparse
import sys
from typing import Any

EXAMPLES = (
    "retina-fm doctor",
    "retina-fm doctor --json",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("doctor", help="check the installation, with a remedy for each fault")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the checks; 1 if any failed."""
    from retina_fm.cli.main import print_json
    from retina_fm.cli.work.doctor import run_checks

    checks = []
    for check in run_checks():
        checks.append(check)
        if not arguments.json:
            print(f"{check.outcome}  {check.name:<28} {check.found}")
            if check.remedy:
                print(f"      {'':<28} -> {check.remedy}")
            sys.stdout.flush()
    if arguments.json:
        print_json([check.__dict__ for check in checks])
    return int(any(check.outcome == "FAIL" for check in checks))
