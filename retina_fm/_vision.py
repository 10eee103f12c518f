"""The one door to packages that import torchvision."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_BROKEN = "operator torchvision::nms does not exist"
_library: list[Any] = []


def import_vision(name: str) -> ModuleType:
    """Import ``name`` (timm, segmentation_models_pytorch, torchvision) where torchvision's operators fail.

    pip may pair a CPU build of torch with a torchvision whose compiled operators do not load; the import
    then fails on an operator that nothing here uses. On exactly that error the two operators are declared,
    and the import is tried once more.
    """
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if _BROKEN not in str(error):
            raise
    import torch

    for loaded in [module for module in sys.modules if module.split(".")[0] in ("torchvision", name)]:
        del sys.modules[loaded]
    fragment: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    fragment.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    fragment.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.append(fragment)  # the declarations live as long as this object
    return importlib.import_module(name)


def operators_declared_here() -> bool:
    """Whether the remedy was needed in this process."""
    return bool(_library)
