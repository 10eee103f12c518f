"""Fitted adapters as ONNX files: encoder and head, or encoder and decoder, in one graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retina_fm.adapters.extraction import encoder_of
from retina_fm.adapters.heads.base import RegressorHead
from retina_fm.adapters.heads.linear import LinearClassifier, LinearRegressor
from retina_fm.adapters.heads.mlp import MLPClassifier, MLPRegressor
from retina_fm.adapters.heads.neighbours import (
    NearestMeanClassifier,
    NeighboursClassifier,
    NeighboursRegressor,
)
from retina_fm.adapters.segmenter import FundusSegmenter
from retina_fm.errors import ConfigError
from retina_fm.models.onnx_export import OnnxReport, example_view, write_onnx

_PRIOR = 0.01


class HeadGraph(nn.Module):
    """A fitted head over embeddings ``(N, D)`` as a module: what ``predict_proba`` or ``predict`` gives.

    Two classes have two columns; several labels have a probability each.
    """

    kept_mean_: Tensor
    kept_scale_: Tensor
    kept_coef_: Tensor
    kept_intercept_: Tensor
    kept_means_: Tensor
    kept_log_prior_: Tensor
    kept_embeddings_: Tensor
    kept_weights_: Tensor
    kept_targets_: Tensor

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.head = head
        if isinstance(head, MLPClassifier | MLPRegressor):
            self.module = head.module_
            return
        arrays, _ = head.state()
        for name, value in arrays.items():
            self.register_buffer(f"kept_{name}", torch.from_numpy(np.asarray(value, np.float32)))

    def forward(self, embeddings: Tensor) -> Tensor:
        """``(N, D)`` to probabilities ``(N, C)`` or measurements ``(N, T)``."""
        head = self.head
        if isinstance(head, RegressorHead):
            mean = torch.from_numpy(head.target_mean_.astype(np.float32))
            scale = torch.from_numpy(head.target_scale_.astype(np.float32))
            return self._standard(embeddings) * scale + mean
        if isinstance(head, NeighboursClassifier):
            return self._votes(embeddings)
        logits = self._logits(embeddings)
        if head.multi_label_:
            return logits.sigmoid()
        if logits.shape[1] == 1:
            positive = logits.sigmoid()
            return torch.cat([1 - positive, positive], dim=1)
        return logits.softmax(1)

    def _logits(self, embeddings: Tensor) -> Tensor:
        if isinstance(self.head, MLPClassifier):
            logits: Tensor = self.module(embeddings) / self.head.temperature_
            return logits
        if isinstance(self.head, LinearClassifier):
            standard = (embeddings - self.kept_mean_) / self.kept_scale_
            return standard @ self.kept_coef_.T + self.kept_intercept_
        if isinstance(self.head, NearestMeanClassifier):
            standard, spread = embeddings / self.kept_scale_, 2 * self.head.spread_
            if self.head.multi_label_:
                without, with_it = (squared(standard, side) for side in self.kept_means_)
                return (without - with_it) / spread
            return -squared(standard, self.kept_means_) / spread + self.kept_log_prior_
        raise ConfigError(f"{type(self.head).__name__} has no form as a graph.")

    def _standard(self, embeddings: Tensor) -> Tensor:
        if isinstance(self.head, MLPRegressor):
            found: Tensor = self.module(embeddings)
            return found
        if isinstance(self.head, LinearRegressor):
            standard = (embeddings - self.kept_mean_) / self.kept_scale_
            return standard @ self.kept_coef_.T + self.kept_intercept_
        if isinstance(self.head, NeighboursRegressor):
            nearest = self._nearest(embeddings)
            weights = self.kept_weights_[nearest][..., None]
            return (self.kept_targets_[nearest] * weights).sum(1) / weights.sum(1)
        raise ConfigError(f"{type(self.head).__name__} has no form as a graph.")

    def _votes(self, embeddings: Tensor) -> Tensor:
        nearest = self._nearest(embeddings)
        weights = self.kept_weights_[nearest]
        votes = (self.kept_targets_[nearest] * weights).sum(1) + _PRIOR * self.kept_targets_.mean(0)
        return votes / (weights.sum(1) + _PRIOR)

    def _nearest(self, embeddings: Tensor) -> Tensor:
        distances = squared(embeddings / self.kept_scale_, self.kept_embeddings_)
        count = min(self.head.n_neighbors, len(self.kept_embeddings_))
        return distances.topk(count, dim=1, largest=False).indices


class PhotoGraph(nn.Module):
    """Views, one an encoder, to what a fitted classifier or regressor says."""

    def __init__(self, encoders: list[Any], head: Any) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.head = HeadGraph(head)
        self.takes_many = True

    def forward(self, *views: Tensor) -> tuple[Tensor, ...]:
        """A pair of the prediction and the embeddings that it is made of."""
        parts = [encoder.embed(view) for encoder, view in zip(self.encoders, views, strict=True)]  # type: ignore[operator]
        embeddings = torch.cat(parts, dim=1)
        return self.head(embeddings), embeddings


class MaskGraph(nn.Module):
    """A view and the strength of its dark lines to probabilities."""

    def __init__(self, source: Any, decoder: nn.Module) -> None:
        super().__init__()
        self.source, self.decoder = source, decoder
        self.encoder = source.encoder

    def forward(self, view: Tensor, lines: Tensor) -> tuple[Tensor, ...]:
        """``(N, 3, S, S)`` and ``(N, 1, S, S)`` to ``(N, C, S, S)``; C is 1 for two classes."""
        logits = self.decoder(view, self.source.maps(view, lines))
        return (logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1),)


def export_adapter(estimator: Any, out: str | Path) -> OnnxReport:
    """Write a fitted adapter as one ONNX file.

    A classifier's or regressor's inputs are ``view`` (``view0``, ``view1`` and so on where encoders are
    fused), its outputs ``prediction`` (probabilities ``(N, C)`` or measurements ``(N, T)``) and
    ``embedding``. A segmenter's inputs are ``view`` and ``lines`` ``(N, 1, S, S)``, the strength of dark
    lines as ``retina_fm.vessels.line_maps.line_maps`` gives it (a filter in NumPy, no part of a graph), its
    output ``probabilities`` of one view: tiles, flips, the field of view and the threshold are the caller's.
    The batch is free. The file's metadata hold classes, threshold, encoders, transforms and licences.

    Args:
        estimator: fitted, as ``adapt(...).fit`` or :func:`retina_fm.adapters.load` gives it.
        out: the file to write.

    Raises:
        ConfigError: nothing was fitted.
        MissingDependencyError: the extra ``onnx`` is not installed.
        OutputError: the file cannot be written, or ONNX Runtime computes something else.
    """
    if not hasattr(estimator, "encoders_"):
        raise ConfigError("The adapter is not fitted; call fit before export_adapter.")
    metadata = {
        "encoders": json.dumps([one.name for one in estimator.encoders_]),
        "weights_sha256": json.dumps([one.weights_sha256 for one in estimator.encoders_]),
        "transforms": json.dumps([one.transform for one in estimator.encoders_]),
        "licences": json.dumps([one.card["licence"] for one in estimator.encoders_]),
    }
    if isinstance(estimator, FundusSegmenter):
        return _segmenter(estimator, out, metadata)
    encoders = [encoder_of(model, estimator._compute()) for model in estimator.models()]
    if hasattr(estimator, "tuned_"):
        encoders[0] = estimator.tuned_
    sides = [encoder.transform.size for encoder in encoders]
    names = ["view"] if len(encoders) == 1 else [f"view{number}" for number in range(len(encoders))]
    inputs = {
        name: example_view(side, seed) for seed, (name, side) in enumerate(zip(names, sides, strict=True))
    }
    if hasattr(estimator.head_, "classes_"):
        metadata["classes"] = json.dumps(estimator.head_.classes_.tolist())
    graph = PhotoGraph(encoders, estimator.head_)
    free = {name: {0: "batch"} for name in names}
    return write_onnx(graph, inputs, ["prediction", "embedding"], out, free, metadata)


def _segmenter(estimator: Any, out: str | Path, metadata: dict[str, str]) -> OnnxReport:
    side = estimator._tile()
    view = example_view(side)
    lines = (view.mean(1, keepdim=True) + 1).clamp(0, 2)
    metadata.update(
        classes=json.dumps(estimator.classes_.tolist()), threshold=json.dumps(estimator.threshold_)
    )
    graph = MaskGraph(estimator._source(), estimator.module_)
    free = {name: {0: "batch"} for name in ("view", "lines")}
    return write_onnx(graph, {"view": view, "lines": lines}, ["probabilities"], out, free, metadata)


def squared(rows: Tensor, others: Tensor) -> Tensor:
    """Squared distances ``(N, M)``."""
    return (rows.square().sum(1)[:, None] + others.square().sum(1) - 2 * rows @ others.T).clamp_min(0)
