"""Encoders as ONNX files: what they compute without PyTorch, checked against PyTorch before it is written."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from retina_fm._io.files import written_beside
from retina_fm.errors import ConfigError, MissingDependencyError, OutputError
from retina_fm.models.backbones import BackboneEncoder
from retina_fm.models.fundus2video import Fundus2VideoEncoder
from retina_fm.network.architecture import STRIDES

OPSET = 18
"""Operators of ONNX 1.13: the first with the reductions that the quantiles need."""
TOLERANCE = 1e-3
_LARGEST = 2048


class OnnxReport(NamedTuple):
    """What was written.

    Attributes:
        path: the file.
        inputs: names of the graph's inputs.
        outputs: names of its outputs.
        size: of the file in bytes.
        difference: largest between ONNX Runtime and PyTorch, relative to each output's largest value.
    """

    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    size: int
    difference: float


class EncoderGraph(nn.Module):
    """An encoder as a function of the view alone, with one tensor an output.

    Attributes:
        outputs: names of what it gives, in order.
    """

    def __init__(self, encoder: Fundus2VideoEncoder | BackboneEncoder, *, maps: bool = True) -> None:
        super().__init__()
        self.encoder = encoder
        self.with_maps = maps
        self.outputs = ["embedding"]
        if maps:
            self.outputs += [f"map{number}" for number in range(len(encoder.feature_info))]
            if isinstance(encoder, Fundus2VideoEncoder):
                self.outputs += ["lesions"] if encoder.architecture.lesions else []
                self.outputs += ["vessels"] if encoder.sees_vessels else []

    def forward(self, view: Tensor) -> tuple[Tensor, ...]:
        """Embedding ``(N, D)``, then maps from fine to coarse, lesion and vessel maps where there are any."""
        if not self.with_maps:
            return (self.encoder.embed(view),)
        pooled, maps, lesions = self.encoder.features(view)
        found = [pooled, *maps]
        if lesions is not None:
            found.append(lesions)
        if "vessels" in self.outputs and isinstance(self.encoder, Fundus2VideoEncoder):
            found.append(self.encoder.vessels(maps))
        return tuple(found)


def export_onnx(
    encoder: Fundus2VideoEncoder | BackboneEncoder, out: str | Path, *, maps: bool = True
) -> OnnxReport:
    """Write an encoder as one ONNX file.

    The input is ``view`` ``(N, 3, H, W)`` as ``encoder.transform`` makes it, outputs the ``embedding`` and,
    with maps, ``map0`` (finest) to the coarsest, ``lesions`` and ``vessels`` where the model predicts them.
    For Fundus2Video N, H and W are free (H and W multiples of 16); for transformers N alone. The file's
    metadata hold name, hash, transform and licence.

    Args:
        encoder: as :func:`retina_fm.load` gives it; it is exported in float32.
        out: the file to write.
        maps: whether maps are given besides the embedding.

    Raises:
        MissingDependencyError: the extra ``onnx`` is not installed.
        OutputError: the file cannot be written, or ONNX Runtime computes something else.
    """
    graph = EncoderGraph(encoder, maps=maps)
    size = encoder.transform.size
    free: dict[int, Any] = {0: "batch"}
    if isinstance(encoder, Fundus2VideoEncoder):
        free.update({2: "height", 3: "width"})
        size = min(size, 8 * STRIDES[-1])
    metadata = {
        "name": encoder.name,
        "weights_sha256": encoder.weights_sha256,
        "transform": json.dumps(encoder.transform.as_dict()),
        "licence": encoder.card.licence,
        "intended_use": encoder.card.intended_use,
    }
    return write_onnx(graph, {"view": example_view(size)}, graph.outputs, out, {"view": free}, metadata)


def example_view(size: int, seed: int = 0) -> Tensor:
    """Two views of noise ``(2, 3, S, S)`` inside a disc, -1 outside."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2, 3, size // 4, size // 4, generator=generator) * 1.8 - 0.9
    view = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    places = torch.linspace(-1, 1, size)
    outside = places[:, None] ** 2 + places[None, :] ** 2 > 0.95
    return view.masked_fill(outside, -1.0)


def write_onnx(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    out: str | Path,
    free: Mapping[str, Mapping[int, str]],
    metadata: Mapping[str, str],
) -> OnnxReport:
    """Write any module as one ONNX file, compare it with PyTorch, and put it in its place whole.

    Args:
        module: takes the inputs in their order and gives a tuple of tensors; it stays where and as it is.
        inputs: an example of each, batch of two.
        outputs: names.
        out: the file to write.
        free: axes that are free, by input; an axis named ``height`` or ``width`` is a multiple of 16.
        metadata: of the file.

    Raises:
        MissingDependencyError: the extra ``onnx`` is not installed.
        OutputError: the file cannot be written, or ONNX Runtime computes something else.
    """
    onnx = _onnx()
    module = copy.deepcopy(module).float().cpu().eval()  # its parts are the caller's own
    examples = tuple(inputs.values())
    dimensions = _dimensions({name for axes in free.values() for name in axes.values()})
    shapes = tuple(
        {axis: dimensions[name] for axis, name in free.get(key, {}).items()} or None for key in inputs
    )
    with torch.inference_mode(), _quietly():
        program = torch.onnx.export(
            module,
            examples,
            dynamo=True,
            dynamic_shapes=(shapes,) if _packs(module) else shapes,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    target = Path(out)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(target) as beside:
            onnx.save_model(model, beside)
            difference = compare(beside, module, inputs)
            if not difference <= TOLERANCE:
                raise OutputError(
                    f"{target}: ONNX Runtime differs from PyTorch by {difference:.1e} of the largest value; "
                    f"{TOLERANCE} is allowed, and nothing was written. Another release of onnxruntime may do."
                )
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error}). Choose another place.") from error
    return OnnxReport(target, tuple(inputs), tuple(outputs), target.stat().st_size, difference)


def compare(path: Path, module: nn.Module, inputs: Mapping[str, Tensor]) -> float:
    """Largest difference between a file and its module, relative to the largest value of each output."""
    session = open_session(path)
    found = session.run(None, {key: value.numpy() for key, value in inputs.items()})
    with torch.inference_mode():
        expected = module(*inputs.values())
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        largest = max(float(other.abs().max()), 1e-6)
        worst = max(worst, float(np.abs(np.asarray(one) - other.numpy()).max()) / largest)
    return worst


def open_session(path: str | Path, *, threads: int | None = None) -> Any:
    """A session of ONNX Runtime on the CPU.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise _missing("onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or torch.get_num_threads()
    return onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])


def _onnx() -> Any:
    try:
        import onnx
        import onnxscript  # noqa: F401  torch's exporter asks for it
    except ImportError as error:
        raise _missing(error.name or "onnx") from None
    return onnx


def _missing(name: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"{name} is not installed; ONNX files need the extra: pip install onnx onnxruntime "
        "onnxscript (or '.[onnx]' in a checkout)."
    )


def _dimensions(names: set[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in names:
        if name in ("height", "width"):
            found[name] = STRIDES[-1] * torch.export.Dim(f"{name}16", min=2, max=_LARGEST // STRIDES[-1])
        elif name == "batch":
            found[name] = torch.export.Dim(name, min=1, max=4096)
        else:
            raise ConfigError(f"Unknown free axis {name!r}; use 'batch', 'height' or 'width'.")
    return found


def _packs(module: nn.Module) -> bool:
    """Whether the module's forward takes ``*views``, which the exporter sees as one tuple."""
    return bool(getattr(module, "takes_many", False))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The exporter prints its progress and warns of its own deprecations; neither is the user's business."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
