"""What a caller set for torch as a whole does not reach into what is loaded or trained here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def undisturbed(work: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """A function in which new tensors are float32 on the CPU and gradients are kept, whatever the caller set.

    Undone are, for the length of the call, ``torch.set_default_dtype``, ``torch.set_default_device``,
    ``torch.no_grad`` and ``torch.inference_mode``.
    """

    @wraps(work)
    def run(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        before = torch.get_default_dtype()
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(torch.device("cpu"))
            stack.callback(torch.set_default_dtype, before)
            torch.set_default_dtype(torch.float32)
            return work(*args, **kwargs)

    return run
