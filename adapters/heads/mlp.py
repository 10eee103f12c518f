"""MLP heads: the paper's, on embeddings of one encoder or fused from several."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from retina_fm.adapters.examples.labels import (
    ClassTargets,
    class_targets,
    class_weights,
    regression_targets,
    weighted_mean,
)
from retina_fm.adapters.examples.splits import check_groups, validation_split
from retina_fm.adapters.heads.base import ClassifierHead, RegressorHead, shrunk_scale
from retina_fm.adapters.heads.calibration import fit_temperature
from retina_fm.adapters.heads.linear import probabilities_of
from retina_fm.adapters.heads.mlp_network import MLP
from retina_fm.adapters.heads.mlp_training import Protocol, auroc, classification_loss, train
from retina_fm.errors import ConfigError
from retina_fm.learning import seeded


class _WithModule:
    """What classifier and regressor share: a module, its widths, and double precision at prediction."""

    module_: MLP
    widths: Sequence[int] | None
    hidden: int
    dropout: float
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int

    def protocol(self) -> Protocol:
        """Schedule and step sizes."""
        return Protocol(self.epochs, self.batch_size, self.learning_rate)

    def _build(self, X: np.ndarray, outputs: int, weight: np.ndarray | None = None) -> MLP:
        with seeded(self.seed):
            module = MLP(self._widths(X.shape[1]), outputs, hidden=self.hidden, dropout=self.dropout)
        module.mean.copy_(torch.from_numpy(weighted_mean(X, weight)))
        module.scale.copy_(torch.from_numpy(shrunk_scale(X, weight=weight)))
        return module

    def _widths(self, features: int) -> list[int]:
        widths = [features] if self.widths is None else [int(width) for width in self.widths]
        if sum(widths) != features or min(widths) < 1:
            raise ConfigError(f"widths {widths} do not add up to the {features} features given.")
        return widths

    @torch.no_grad()
    def _outputs(self, X: np.ndarray) -> np.ndarray:
        # in double precision a row's result does not depend on what it is batched with
        module = copy.deepcopy(self.module_).cpu().double().eval()
        return np.asarray(module(torch.from_numpy(X.copy())).numpy())

    def attention(self, X: Any) -> np.ndarray:
        """Weight of each encoder for each example, ``(N, encoders)``, rows sum to 1."""
        check_is_fitted(self)
        return self._attention(validate_data(self, X, reset=False, dtype=np.float64))

    @torch.no_grad()
    def _attention(self, X: np.ndarray) -> np.ndarray:
        module = copy.deepcopy(self.module_).cpu().double().eval()
        return np.asarray(module.fused(torch.from_numpy(X.copy()))[1].numpy())

    def _module_arrays(self) -> dict[str, np.ndarray]:
        return {f"module.{key}": value.cpu().numpy() for key, value in self.module_.state_dict().items()}

    def _restore_module(self, arrays: dict[str, np.ndarray], features: int, outputs: int) -> None:
        self.module_ = MLP(self._widths(features), outputs, hidden=self.hidden, dropout=self.dropout).eval()
        own = {key.removeprefix("module."): torch.from_numpy(value) for key, value in arrays.items()}
        self.module_.load_state_dict({key: value for key, value in own.items() if not key.startswith("_")})


class MLPClassifier(_WithModule, ClassifierHead):
    """One hidden layer by the paper's protocol: label smoothing, warm-up, cosine, best validation AUROC kept.

    Args:
        widths: length of each encoder's part of an embedding; None for one encoder. Several are fused by soft
            attention.
        hidden: units of the hidden layer.
        dropout: share of them dropped in training.
        epochs: passes over the examples; few examples are passed more often, four steps an epoch at least.
        batch_size: examples a step.
        learning_rate: at its peak.
        label_smoothing: share of each label spread over all classes.
        validation: share of examples set aside, by group, to choose the epoch and the temperature; none are
            where a class has fewer than four.
        calibrate: fit a temperature on them.
        class_weight: None, ``"balanced"`` or a dict.
        seed: of everything random.

    Attributes:
        module_: the trained ``torch.nn.Module``.
        temperature_: that logits are divided by; 1 without a validation part.
        attention_: ``(N, encoders)`` weights of the examples fitted on.
        validation_auroc_: of the epoch kept, or None.
    """

    def __init__(
        self,
        widths: Sequence[int] | None = None,
        hidden: int = 256,
        dropout: float = 0.2,
        epochs: int = 50,
        batch_size: int = 16,
        learning_rate: float = 5e-4,
        label_smoothing: float = 0.1,
        validation: float = 0.2,
        calibrate: bool = True,
        class_weight: Any = None,
        seed: int = 0,
    ) -> None:
        self.widths = widths
        self.hidden = hidden
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.label_smoothing = label_smoothing
        self.validation = validation
        self.calibrate = calibrate
        self.class_weight = class_weight
        self.seed = seed

    def _learn(self, X: np.ndarray, targets: ClassTargets, groups: Any, val: Any) -> None:
        rows, held = np.arange(len(X)), val
        if val is None:
            patients = check_groups(groups, len(X))
            strata = None if targets.multi_label else targets.index
            rows, other = validation_split(strata, patients, self.validation, self.seed)
            part = ClassTargets(targets.classes, targets.onehot[other], targets.multi_label)
            held = (X[other], part) if len(other) else None
        times = None if targets.weight is None else targets.weight[rows]
        self.module_ = self._build(X[rows], len(targets.classes), times)
        self.temperature_ = 1.0
        weights = class_weights(targets, self.class_weight)[rows]
        if times is not None:
            weights /= times.mean()  # so that a step keeps its size
        onehot = targets.onehot[rows]
        self._start_at_prior(onehot, weights, targets.multi_label)
        loss = classification_loss(onehot, weights, targets.multi_label, self.label_smoothing)
        score = None if held is None else (lambda _: auroc(held[1], self._probabilities(held[0])))
        inputs = torch.from_numpy(X[rows].astype(np.float32))
        self.validation_auroc_, self.n_iter_ = train(
            self.module_, inputs, loss, self.protocol(), score, self.seed
        )
        if held is not None:
            if self.validation_auroc_ is None:
                warnings.warn(
                    "The validation part holds one class alone: it chose no epoch, the last one is kept.",
                    stacklevel=3,
                )
            self._calibrate(*held)
        self.attention_ = self._attention(X)

    def _calibrate(self, X: np.ndarray, targets: ClassTargets) -> None:
        if self.calibrate:
            self.temperature_ = fit_temperature(self._outputs(X), targets.onehot, targets.multi_label)

    @torch.no_grad()
    def _start_at_prior(self, onehot: np.ndarray, weights: np.ndarray, multi_label: bool) -> None:
        """Begin at the weighted share of each class: the epoch kept by AUROC may be an early one."""
        share = np.clip((onehot * weights).sum(0) / weights.sum(0), 1e-6, 1 - 1e-6)
        bias = np.log(share / (1 - share)) if multi_label else np.log(share)
        output = self.module_.layers[-1]
        assert isinstance(output, torch.nn.Linear)
        output.bias.copy_(torch.from_numpy(bias.astype(np.float32)))

    def joint(
        self, y: Any, embed: Callable[[], np.ndarray] | None, val: Any
    ) -> tuple[Callable[[Tensor, Tensor], Tensor], Callable[[], float] | None]:
        """Loss and validation AUROC for training this head's module together with an encoder."""
        targets = class_targets(y, self.classes_)
        weights = class_weights(targets, self.class_weight)
        loss = classification_loss(targets.onehot, weights, self.multi_label_, self.label_smoothing)
        if embed is None:
            return loss, None
        held = class_targets(val[1], self.classes_)
        return loss, lambda: auroc(held, self._probabilities(embed()))

    def after_joint(self, X: np.ndarray, held: np.ndarray | None, val: Any) -> None:
        """Take the figures of the state that was kept: embeddings of training and validation part anew."""
        self.attention_ = self._attention(X)
        if held is None:
            return
        targets = class_targets(val[1], self.classes_)
        self._calibrate(held, targets)
        found = auroc(targets, self._probabilities(held))
        self.validation_auroc_ = None if math.isnan(found) else found

    def _probabilities(self, X: np.ndarray) -> np.ndarray:
        return probabilities_of(self._outputs(X) / self.temperature_, self.multi_label_)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:  # noqa: D102
        values = {
            "temperature_": self.temperature_,
            "validation_auroc_": self.validation_auroc_,
            "n_iter_": self.n_iter_,
        }
        return {**self._module_arrays(), "attention_": self.attention_}, values

    def restore(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:  # noqa: D102
        self.attention_ = arrays.pop("attention_")
        self.__dict__.update(values)
        self._restore_module(arrays, self.n_features_in_, len(self.classes_))


class MLPRegressor(_WithModule, RegressorHead):
    """The same network and schedule for measurements: squared error on standardised values.

    Attributes:
        module_: the trained ``torch.nn.Module``.
        attention_: ``(N, encoders)`` weights of the examples fitted on.
        validation_error_: mean squared standardised error of the epoch kept, or None.
    """

    def __init__(
        self,
        widths: Sequence[int] | None = None,
        hidden: int = 256,
        dropout: float = 0.2,
        epochs: int = 50,
        batch_size: int = 16,
        learning_rate: float = 5e-4,
        validation: float = 0.2,
        seed: int = 0,
    ) -> None:
        self.widths = widths
        self.hidden = hidden
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation = validation
        self.seed = seed

    def _learn(self, X: np.ndarray, y: np.ndarray, groups: Any, val: Any, weight: np.ndarray | None) -> None:
        rows, held = np.arange(len(X)), val
        if val is None and len(X) >= 20:
            rows, other = validation_split(None, check_groups(groups, len(X)), self.validation, self.seed)
            held = (X[other], y[other]) if len(other) else None
        times = np.ones(len(rows)) if weight is None else weight[rows] / weight[rows].mean()
        self.module_ = self._build(X[rows], y.shape[1], None if weight is None else times)
        each = torch.from_numpy(times.astype(np.float32))[:, None]
        wanted = torch.from_numpy(y[rows].astype(np.float32))
        score = (
            None if held is None else (lambda _: -float(np.square(self._outputs(held[0]) - held[1]).mean()))
        )
        found, self.n_iter_ = train(
            self.module_,
            torch.from_numpy(X[rows].astype(np.float32)),
            lambda out, chosen: ((out - wanted[chosen]).square() * each[chosen]).mean(),
            self.protocol(),
            score,
            self.seed,
        )
        self.validation_error_ = None if found is None else -found
        self.attention_ = self._attention(X)

    def joint(
        self, y: Any, embed: Callable[[], np.ndarray] | None, val: Any
    ) -> tuple[Callable[[Tensor, Tensor], Tensor], Callable[[], float] | None]:
        """Loss and validation score for training this head's module together with an encoder."""
        values = regression_targets(y)
        wanted = torch.from_numpy(self._standard(values.reshape(len(values), -1)).astype(np.float32))

        def loss(outputs: Tensor, rows: Tensor) -> Tensor:
            return (outputs - wanted[rows]).square().mean()

        if embed is None:
            return loss, None
        return loss, lambda: -self._error(embed(), val)

    def after_joint(self, X: np.ndarray, held: np.ndarray | None, val: Any) -> None:
        """As a classifier's."""
        self.attention_ = self._attention(X)
        self.validation_error_ = None if held is None else self._error(held, val)

    def _error(self, X: np.ndarray, val: Any) -> float:
        wanted = self._standard(regression_targets(val[1]).reshape(len(val[0]), -1))
        return float(np.square(self._outputs(X) - wanted).mean())

    def _predicted(self, X: np.ndarray) -> np.ndarray:
        return self._outputs(X)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:  # noqa: D102
        values = {"validation_error_": self.validation_error_, "n_iter_": self.n_iter_}
        return {**self._module_arrays(), "attention_": self.attention_}, values

    def restore(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:  # noqa: D102
        self.attention_ = arrays.pop("attention_")
        self.__dict__.update(values)
        self._restore_module(arrays, self.n_features_in_, len(self.target_mean_))
