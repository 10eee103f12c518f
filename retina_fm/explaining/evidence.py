"""What a heat map is a map of: the evidence that a fitted estimator draws from one view of a photo."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retina_fm.adapters.extraction import device_of
from retina_fm.adapters.heads.neighbours import NeighboursClassifier, NeighboursRegressor
from retina_fm.adapters.onnx_export import HeadGraph
from retina_fm.errors import ConfigError
from retina_fm.pictures import Geometry

_LEAST = 1e-12  # of a probability, so that its log-odds stay finite

Target = tuple[int, str, str]
"""Column that is explained, what it is called, and what was predicted of it."""


@dataclass(frozen=True)
class Evidence:
    """One encoder's view of a photo, and what the estimator says of such views.

    Attributes:
        view: ``uint8 (S, S, 3)``.
        geometry: where it lies in the photo.
        scaled: ``(1, 3, S, S)`` as the encoder takes it, on its device.
        scale: ``uint8 (S, S, 3)`` to such a tensor.
        of: ``(N, 3, S, S)`` to ``(N,)``: log-odds of the class, or the measurement; what other encoders see
            stays as it is.
    """

    view: NDArray[np.uint8]
    geometry: Geometry
    scaled: Tensor
    scale: Callable[[NDArray[np.uint8]], Tensor]
    of: Callable[[Tensor], Tensor]


def refuse_unexplained(estimator: Any, *, gradients: bool) -> None:
    """Refuse what has no heat map.

    Raises:
        ConfigError: it is no classifier or regressor of photos, it is not fitted, or its head has no
            gradients.
    """
    if getattr(estimator, "task", None) not in ("classification", "regression"):
        raise ConfigError(
            f"{type(estimator).__name__} cannot be explained: a FundusClassifier or FundusRegressor is "
            "needed. A segmenter's probability maps (predict_proba) say where by themselves."
        )
    if not hasattr(estimator, "head_"):
        raise ConfigError("The estimator is not fitted; call fit before explain.")
    if gradients and isinstance(estimator.head_, NeighboursClassifier | NeighboursRegressor):
        raise ConfigError("Votes of neighbours have no gradients; use method='occlusion'.")


def target_of(estimator: Any, embedding: NDArray[np.float64], target: Any) -> Target:
    """What is explained: the class or measurement that was asked for, else the likeliest class.

    Args:
        estimator: fitted.
        embedding: of the photo, ``(1, D)``.
        target: a label of ``classes_``, or the position of a measurement.

    Raises:
        ConfigError: there is no such class or measurement, or several measurements and none was named.
    """
    if estimator.task == "classification":
        probabilities = estimator.head_.predict_proba(embedding)[0]
        names = [str(name) for name in estimator.classes_]
        if target is None:
            column = int(probabilities.argmax())
        elif str(target) in names:
            column = names.index(str(target))
        else:
            raise ConfigError(f"There is no class {target!r}; the classes are {', '.join(names)[:200]}.")
        return column, names[column], f"probability {probabilities[column]:.3f}"
    values = np.asarray(estimator.head_.predict(embedding), np.float64).reshape(-1)
    if target is None and len(values) > 1:
        raise ConfigError(f"There are {len(values)} measurements; name one of them, target=0 for example.")
    column = 0 if target is None else target
    if not isinstance(column, int) or not 0 <= column < len(values):
        raise ConfigError(
            f"There is no measurement {target!r}; target is a number from 0 to {len(values) - 1}."
        )
    return column, "value" if len(values) == 1 else f"value_{column}", f"value {values[column]:.4g}"


def evidence_in(
    estimator: Any, picture: NDArray[np.uint8], embedding: NDArray[np.float64], column: int, *, exact: bool
) -> Iterator[Evidence]:
    """The evidence of each encoder, one after the other.

    Args:
        estimator: fitted.
        picture: ``uint8 (H, W, 3)``.
        embedding: of it, ``(1, D)``.
        column: of the target.
        exact: whether encoders compute in float32, as gradients need it.
    """
    # twice as many digits: the log-odds of a sure classifier differ where its float32 probabilities do not
    graph = copy.deepcopy(HeadGraph(estimator.head_)).cpu().double().eval()
    classes = estimator.task == "classification"
    begin = 0
    for encoder in estimator.loaded_encoders():
        end = begin + encoder.num_features
        used = copy.deepcopy(encoder).float().requires_grad_(False) if exact else encoder
        before, after = (torch.from_numpy(part) for part in (embedding[:, :begin], embedding[:, end:]))
        transform, device = used.transform, device_of(used)

        def scale(pixels: NDArray[np.uint8], transform: Any = transform, device: Any = device) -> Tensor:
            return torch.from_numpy(transform.normalise(pixels))[None].to(device)

        def of(views: Tensor, used: Any = used, before: Tensor = before, after: Tensor = after) -> Tensor:
            seen = used.embed(views).cpu().double()
            several = len(views)
            whole = torch.cat([before.expand(several, -1), seen, after.expand(several, -1)], dim=1)
            found: Tensor = graph(whole)[:, column]
            return torch.logit(found, eps=_LEAST) if classes else found

        view, geometry = transform.view(picture)
        yield Evidence(view, geometry, scale(view), scale, of)
        begin = end
