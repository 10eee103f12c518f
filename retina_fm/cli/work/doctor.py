"""Checks of an installation: one line each, PASS, WARN or FAIL, with the remedy."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import retina_fm
from retina_fm.errors import RetinaError

Outcome = Literal["PASS", "WARN", "FAIL"]
_PACKAGES = (
    "torch",
    "timm",
    "segmentation_models_pytorch",
    "faiss",
    "sklearn",
    "pyarrow",
    "safetensors",
    "PIL",
)
_OPTIONAL = {
    "pydicom": "dicom",
    "oct_converter": "vendor",
    "accelerate": "train",
    "captum": "explain",
    "fastapi": "serve",
    "lancedb": "lance",
    "ray": "ray",
}


@dataclass(frozen=True)
class Check:
    """One line of ``retina-fm doctor``.

    Attributes:
        name: what was looked at.
        outcome: PASS, WARN (works, but) or FAIL.
        found: what is there.
        remedy: what to do, empty for PASS.
    """

    name: str
    outcome: Outcome
    found: str
    remedy: str = ""


def run_checks() -> Iterator[Check]:
    """All checks, one after the other; a check that breaks is itself a FAIL."""
    checks: tuple[Callable[[], Iterator[Check]], ...] = (
        _python,
        _packages,
        _torchvision,
        _extras,
        _processor,
        _compiler,
        _models,
        _cache,
        _network,
    )
    for check in checks:
        try:
            yield from check()
        except Exception as error:  # noqa: PERF203  the doctor must not die of the disease
            yield Check(check.__name__.strip("_"), "FAIL", f"{type(error).__name__}: {error}", "report this")


def _python() -> Iterator[Check]:
    version = platform.python_version()
    old = sys.version_info < (3, 10)
    remedy = "use Python 3.10 or newer" if old else ""
    yield Check("python", "FAIL" if old else "PASS", f"{version} on {platform.platform()}", remedy)
    where = Path(retina_fm.__file__).parent
    yield Check("retina_fm", "PASS", f"{retina_fm.__version__} in {where}")


def _packages() -> Iterator[Check]:
    from retina_fm._vision import import_vision

    import_vision("torch")  # before faiss: each brings an OpenMP runtime, and this order works
    for name in _PACKAGES:
        try:
            module = import_vision(name)
        except Exception as error:
            short = str(error).splitlines()[0] if str(error) else type(error).__name__
            yield Check(name, "FAIL", short, "in the checkout: pip install --upgrade .")
            continue
        yield Check(name, "PASS", str(getattr(module, "__version__", "installed")))


def _torchvision() -> Iterator[Check]:
    import torch

    from retina_fm._vision import operators_declared_here

    try:
        version = importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        yield Check("torchvision", "FAIL", "not installed", "pip install torchvision")
        return
    if operators_declared_here():
        yield Check(
            "torchvision",
            "WARN",
            f"{version} was built for another torch than {torch.__version__}: a plain 'import timm' fails",
            "nothing here needs its operators; in your own code import retina_fm.models.timm_models before "
            "timm, or install torch and torchvision from one index",
        )
    else:
        yield Check("torchvision", "PASS", f"{version} fits torch {torch.__version__}")


def _extras() -> Iterator[Check]:
    for name, extra in _OPTIONAL.items():
        if importlib.util.find_spec(name):
            yield Check(f"extra {extra}", "PASS", f"{name} {importlib.metadata.version(name)}")
        else:
            yield Check(
                f"extra {extra}",
                "PASS",
                f"{name} not installed (optional: pip install '.[{extra}]' in a checkout)",
            )


def _processor() -> Iterator[Check]:
    import torch

    from retina_fm.encoding.decoding import cores
    from retina_fm.encoding.precision import fastest_precision

    chosen = fastest_precision(torch.device("cpu"))
    slow = chosen.dtype == torch.float32
    remedy = "results are the same, about half as fast" if slow else ""
    yield Check("processor", "WARN" if slow else "PASS", f"{cores()} cores, {chosen}", remedy)
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        found = f"{torch.cuda.get_device_name()}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free"
        yield Check("gpu", "PASS", f"{found}, {fastest_precision(torch.device('cuda'))}")
    else:
        yield Check("gpu", "PASS", "none; the CPU is used")


def _compiler() -> Iterator[Check]:
    compiler = next((name for name in ("g++", "clang++", "cl") if shutil.which(name)), None)
    if compiler:
        yield Check("compiler", "PASS", f"{compiler}, for torch.compile on large jobs")
    else:
        yield Check("compiler", "WARN", "none", "large jobs run uncompiled; install g++ to gain a twentieth")


def _models() -> Iterator[Check]:
    from retina_fm.models import list_models, load

    for model in list_models():
        if model.folder is None:
            missing: Outcome = "WARN" if model.name == "fundus2video" else "PASS"
            remedy = "use fundus2video-random for trials" if missing == "WARN" else ""
            yield Check(f"model {model.name}", missing, "no weights here", remedy)
    try:
        encoder = load("fundus2video-tiny")
    except RetinaError as error:
        yield Check("weights", "FAIL", str(error), "install retina_fm again")
        return
    yield Check("weights", "PASS", f"verified and loaded {encoder.name}, {encoder.weights_sha256[:12]}")


def _cache() -> Iterator[Check]:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    folder = next(path for path in (home, *home.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Check("cache", "WARN", f"{folder}: {error.strerror}", "set HF_HOME to a folder you may write")
        return
    free = shutil.disk_usage(folder).free / 2**30
    low = free < 2
    remedy = "make room before fetching hub models" if low else ""
    yield Check("cache", "WARN" if low else "PASS", f"{home}, {free:.0f} GiB free", remedy)


def _network() -> Iterator[Check]:
    offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    state = "HF_HUB_OFFLINE is set" if offline else "not tried"
    yield Check("network", "PASS", f"{state}; only hf-hub: and timm/ models need it")
