"""Count the promises kept, over every registered model: ``tests/models/count_contracts.py timm smp``."""

from __future__ import annotations

import argparse
import importlib
import sys
import warnings
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

import retina_fm  # noqa: E402


def count(library: str, names: list[str], only: str | None) -> None:
    module = importlib.import_module(f"models.{library}_checks")
    for name in names:
        kept, failed = 0, []
        for key, check in module.CHECKS.items():
            if only and only not in key:
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    check(module.Model(name))
                kept += 1
            except Exception as error:  # any failure is what is counted
                reason = module.BY_DESIGN.get(
                    key, f"{type(error).__name__}: {str(error).splitlines()[:1]}"[:160]
                )
                failed.append(f"    {key}: {reason}")
        print(f"{library} {name}: {kept} of {kept + len(failed)}", *failed, sep="\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("libraries", nargs="+", choices=("timm", "smp"))
    parser.add_argument("--models", nargs="+", help="registered names; all without it")
    parser.add_argument("--only", help="checks whose name contains this")
    arguments = parser.parse_args()
    names = arguments.models or [summary.name for summary in retina_fm.list_models()]
    for library in arguments.libraries:
        count(library, names, arguments.only)


if __name__ == "__main__":
    main()
