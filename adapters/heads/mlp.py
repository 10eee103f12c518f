"""MLP heads: the paper's, on embeddings of one encoder or fused from several."""

from __future__ import annotations

import copy
import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retina_fm.adapters.examples.draws import validation_split
from retina_fm.adapters.examples.labels import ClassTargets, class_weights, weighted_mean
from retina_fm.adapters.heads.base import ClassifierHead, Head, RegressorHead, shrunk_scale
from retina_fm.adapters.heads.linear import probabilities_of
from retina_fm.adapters.heads.mlp_network import MLP
from retina_fm.adapters.heads.mlp_training import (
    Protocol,
    classification_loss,
    fit_temperature,
    train,
)
from retina_fm.errors import ConfigError
from retina_fm.learning import seeded
from retina_fm.models.folder import check_tensors

Loss = Callable[[Tensor, Tensor], Tensor]
"""Of outputs and the positions of their examples."""


class _MLPHead(Head):
    """What classifier and regressor share: a module, its training, and double precision at prediction."""

    _arrays = ("attention_",)
    _fewest = 1
    """Examples from which a validation part is set aside."""

    module_: MLP
    attention_: np.ndarray

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

    def protocol(self) -> Protocol:
        """Schedule and step sizes."""
        return Protocol(self.epochs, self.batch_size, self.learning_rate)

    def attention(self, X: Any) -> np.ndarray:
        """Weight of each encoder for each example, ``(N, encoders)``, rows sum to 1."""
        return self._attention(self._embedded(X))

    def joint(
        self, labels: Any, embed: Callable[[], np.ndarray] | None, held: Any
    ) -> tuple[Loss, Callable[[], float] | None]:
        """Loss and validation score for training this head's module together with an encoder.

        Args:
            labels: checked, of the training part.
            embed: gives embeddings of the validation part; None where there is none.
            held: its checked labels.
        """
        y = self._prepared(labels)
        loss = self._loss(y, np.arange(len(y)), None)
        if embed is None:
            return loss, None
        wanted = self._prepared(held)
        return loss, lambda: self._score(embed(), wanted)

    def after_joint(self, X: np.ndarray, held: tuple[np.ndarray, Any] | None) -> None:
        """Take the figures of the state that was kept: embeddings of training and validation part anew."""
        if held is not None:
            y = self._prepared(held[1])
            self._calibrate(held[0], y)
            self._note(self._score(held[0], y))
        self.attention_ = self._attention(X)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        arrays, state = super().state()
        module = {f"module.{key}": value.cpu().numpy() for key, value in self.module_.state_dict().items()}
        return {**module, **arrays}, state

    def restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        module = {key: arrays.pop(key) for key in list(arrays) if key.startswith("module.")}
        super().restore(arrays, state)
        tensors = {key.removeprefix("module."): torch.from_numpy(value) for key, value in module.items()}
        with torch.device("meta"):
            shape = self._new_module(self.n_features_in_, self._outputs())
        check_tensors(tensors, shape.state_dict(), "The adapter's head")  # before memory is taken for it
        self.module_ = self._new_module(self.n_features_in_, self._outputs()).eval()
        self.module_.load_state_dict(tensors)

    def _learn(self, X: np.ndarray, y: Any, groups: np.ndarray, val: Any, weight: np.ndarray | None) -> None:
        rows, held = np.arange(len(X)), val
        if val is None and len(X) >= self._fewest:
            rows, other = validation_split(self._strata(y), groups, self.validation, self.seed)
            held = (X[other], y[other]) if len(other) else None
        with seeded(self.seed):
            self.module_ = self._new_module(X.shape[1], self._outputs())
        times = None if weight is None else self._times(weight[rows])
        self.module_.mean.copy_(torch.from_numpy(weighted_mean(X[rows], times)))
        self.module_.scale.copy_(torch.from_numpy(shrunk_scale(X[rows], weight=times)))
        self._start(y, rows, weight)
        found, self.n_iter_ = train(
            self.module_,
            torch.from_numpy(X[rows].astype(np.float32)),
            self._loss(y, rows, weight),
            self.protocol(),
            None if held is None else lambda _: self._score(*held),
            self.seed,
        )
        self._note(math.nan if found is None else found)
        if held is not None:
            if found is None:
                self._without_choice()
            self._calibrate(*held)
        self.attention_ = self._attention(X)

    def _judge(self, held: Any) -> None:
        """Training noted the score by which it kept an epoch."""

    def _new_module(self, features: int, outputs: int) -> MLP:
        widths = [features] if self.widths is None else [int(width) for width in self.widths]
        if sum(widths) != features or min(widths) < 1:
            raise ConfigError(f"widths {widths} do not add up to the {features} features given.")
        return MLP(widths, outputs, hidden=self.hidden, dropout=self.dropout)

    def _exact(self, X: np.ndarray) -> tuple[MLP, Tensor]:
        # in double precision a row's result does not depend on what it is batched with
        return copy.deepcopy(self.module_).cpu().double().eval(), torch.from_numpy(X.copy())

    @torch.no_grad()
    def _predicted(self, X: np.ndarray) -> np.ndarray:
        module, inputs = self._exact(X)
        return np.asarray(module(inputs).numpy())

    @torch.no_grad()
    def _attention(self, X: np.ndarray) -> np.ndarray:
        module, inputs = self._exact(X)
        return np.asarray(module.fused(inputs)[1].numpy())

    def _strata(self, y: Any) -> np.ndarray | None:  # noqa: ARG002
        return None

    def _times(self, weight: np.ndarray) -> np.ndarray:
        """Weights of the examples trained on, as the module's standardisation counts them."""
        return weight

    def _start(self, y: Any, rows: np.ndarray, weight: np.ndarray | None) -> None:
        """Set what training begins with."""

    def _without_choice(self) -> None:
        """Say that the validation part chose no epoch."""

    def _calibrate(self, X: np.ndarray, y: Any) -> None:
        """Make probabilities mean what they say."""

    @abstractmethod
    def _outputs(self) -> int: ...

    @abstractmethod
    def _loss(self, y: Any, rows: np.ndarray, weight: np.ndarray | None) -> Loss:
        """The loss over the examples at ``rows``; positions are among these, ``weight`` is of all."""


class MLPClassifier(_MLPHead, ClassifierHead):
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
        super().__init__(widths, hidden, dropout, epochs, batch_size, learning_rate, validation, seed)
        self.label_smoothing = label_smoothing
        self.calibrate = calibrate
        self.class_weight = class_weight

    _values = ("temperature_", "n_iter_")

    def _outputs(self) -> int:
        return len(self.classes_)

    def _strata(self, y: ClassTargets) -> np.ndarray | None:
        return y.strata

    @torch.no_grad()
    def _start(self, y: ClassTargets, rows: np.ndarray, weight: np.ndarray | None) -> None:
        """Begin at the weighted share of each class: the epoch kept by AUROC may be an early one."""
        self.temperature_ = 1.0
        onehot, weights = y.onehot[rows], self._weights(y, rows, weight)
        share = np.clip((onehot * weights).sum(0) / weights.sum(0), 1e-6, 1 - 1e-6)
        bias = np.log(share / (1 - share)) if y.multi_label else np.log(share)
        output = self.module_.layers[-1]
        assert isinstance(output, torch.nn.Linear)
        output.bias.copy_(torch.from_numpy(bias.astype(np.float32)))

    def _loss(self, y: ClassTargets, rows: np.ndarray, weight: np.ndarray | None) -> Loss:
        weights = self._weights(y, rows, weight)
        return classification_loss(y.onehot[rows], weights, y.multi_label, self.label_smoothing)

    def _weights(self, y: ClassTargets, rows: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
        weights = class_weights(y, self.class_weight, weight)[rows]
        if weight is not None:
            weights /= weight[rows].mean()  # so that a step keeps its size
        return np.asarray(weights)

    def _without_choice(self) -> None:
        warnings.warn(
            "The validation part holds one class alone: it chose no epoch, the last one is kept.",
            stacklevel=5,
        )

    def _calibrate(self, X: np.ndarray, y: ClassTargets) -> None:
        if self.calibrate:
            self.temperature_ = fit_temperature(self._predicted(X), y.onehot, y.multi_label)

    def _probabilities(self, X: np.ndarray) -> np.ndarray:
        return probabilities_of(self._predicted(X) / self.temperature_, self.multi_label_)


class MLPRegressor(_MLPHead, RegressorHead):
    """The same network and schedule for measurements: squared error on standardised values.

    Attributes:
        module_: the trained ``torch.nn.Module``.
        attention_: ``(N, encoders)`` weights of the examples fitted on.
        validation_error_: mean squared standardised error of the epoch kept, or None.
    """

    _values = ("n_iter_",)
    _fewest = 20

    def _outputs(self) -> int:
        return len(self.target_mean_)

    def _times(self, weight: np.ndarray) -> np.ndarray:
        return np.asarray(weight / weight.mean())  # so that a step keeps its size

    def _loss(self, y: np.ndarray, rows: np.ndarray, weight: np.ndarray | None) -> Loss:
        wanted = torch.from_numpy(y[rows].astype(np.float32))
        times = np.ones(len(rows)) if weight is None else self._times(weight[rows])
        each = torch.from_numpy(times.astype(np.float32))[:, None]
        return lambda outputs, chosen: ((outputs - wanted[chosen]).square() * each[chosen]).mean()
