"""How the packages open: public names on first use, and the parts that a checkout holds beside the core."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_PARTS = ("adapters", "indexes", "training", "weights")


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """What makes names of other modules a package's own, each loaded when it is asked for.

    Args:
        package: its ``__name__``.
        homes: public names with the modules that define them.

    Returns:
        The package's ``__getattr__``, ``__dir__`` and ``__all__``.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names, sorted(homes)


class PartsBeside:
    """Finds adapters, indexes, training and weights beside the core, and nothing else that lies there."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def find_spec(
        self,
        name: str,
        path: object = None,  # noqa: ARG002  what the import system passes
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The part of a name, as the import system asks for it."""
        core, _, part = name.rpartition(".")
        if core != "retina_fm" or part not in _PARTS:
            return None
        return PathFinder.find_spec(name, [self.folder], target)


def open_checkout(core: Path) -> None:
    """Let the parts be imported from a checkout, where they lie beside the core rather than in it.

    Args:
        core: the folder of the core.
    """
    if not (core / "training").is_dir() and (core.parent / "training" / "__init__.py").is_file():
        sys.meta_path.insert(0, PartsBeside(core.parent))  # before the finder of another installation
