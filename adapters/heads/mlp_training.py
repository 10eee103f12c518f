"""The paper's protocol for a head: schedule, label smoothing, best validation score kept, calibration."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retina_fm.learning import cosine, seeded

_LOWEST, _HIGHEST = 0.05, 20.0
_PRIOR = 2.0
"""Weight of ``log(temperature)**2 / 2``, in examples: two that are told apart would call for certainty."""


@dataclass(frozen=True)
class Protocol:
    """How a head is trained (the paper, Methods: supervised and few-shot fine-tuning).

    Attributes:
        epochs: passes over the examples.
        batch_size: examples a step.
        peak: learning rate after the warm-up, which starts from zero.
        final: learning rate at the end of the cosine.
        warmup: share of the steps that the rate rises.
        weight_decay: of AdamW.
        fewest: steps an epoch; where few examples would give fewer, they are passed more often.
    """

    epochs: int = 50
    batch_size: int = 16
    peak: float = 5e-4
    final: float = 1e-6
    warmup: float = 0.2
    weight_decay: float = 0.05
    fewest: int = 4

    def steps(self, examples: int) -> tuple[int, int]:
        """Steps an epoch and in all."""
        each = max(self.fewest, math.ceil(examples / self.batch_size))
        return each, self.epochs * each

    def rate(self, share: float) -> float:
        """Learning rate at a share of the run: linear from 0 to the peak, then cosine to the final one."""
        if share < self.warmup:
            return self.peak * share / self.warmup
        progress = (share - self.warmup) / (1 - self.warmup)
        return self.final + (self.peak - self.final) * cosine(progress)


def train(
    module: nn.Module,
    inputs: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    protocol: Protocol,
    score: Callable[[nn.Module], float] | None,
    seed: int,
) -> tuple[float | None, int]:
    """Train in place; with a score, the module of the best epoch is what remains.

    Args:
        module: takes rows of ``inputs``.
        inputs: ``(N, D)``.
        loss: of outputs and the rows' positions ``(B,)``.
        protocol: schedule and step sizes.
        score: of the validation part, higher is better; None keeps the last step.
        seed: of order and dropout.

    Returns:
        The best score, or None, and the steps done.
    """
    steps = protocol.steps(len(inputs))
    order = torch.empty(0, dtype=torch.long)

    def backward(_: int) -> None:
        nonlocal order
        if len(order) == 0:
            order = torch.randperm(len(inputs))
        rows, order = order[: protocol.batch_size], order[protocol.batch_size :]
        loss(module(inputs[rows]), rows).backward()  # type: ignore[no-untyped-call]

    groups = [{"params": list(module.parameters()), "share": 1.0}]
    judge = None if score is None else partial(score, module)
    with seeded(seed), one_thread():
        best = descend(module, groups, protocol, steps, backward, judge)
    return best, steps[1]


def descend(
    module: nn.Module,
    groups: list[dict[str, Any]],
    protocol: Protocol,
    steps: tuple[int, int],
    backward: Callable[[int], None],
    score: Callable[[], float] | None,
    *,
    beside: Sequence[nn.Module] = (),
    from_start: bool = False,
    clip: float | None = None,
    progress: Any = None,
) -> float | None:
    """The steps of a protocol, in place; with a score, the state of the best epoch is what remains.

    Args:
        module: in training mode during a step, judged in evaluation mode.
        groups: of the optimiser, each with the ``share`` of the protocol's rate that it is trained at.
        protocol: schedule.
        steps: an epoch, and in all.
        backward: adds the gradients of a step, by its number.
        score: after each epoch, higher is better; None keeps the last step.
        beside: modules whose state is kept along.
        from_start: judge the state before the first step too.
        clip: greatest norm of all gradients.
        progress: a bar, moved on by each step.

    Returns:
        The best score, or None.
    """
    optimiser = torch.optim.AdamW(groups, lr=protocol.peak, weight_decay=protocol.weight_decay)
    each, total = steps
    parameters = [parameter for group in groups for parameter in group["params"]]
    kept = (module, *beside)
    best: tuple[float, list[dict[str, Tensor]]] | None = None
    for step in range(-1 if from_start else 0, total):  # before the first, there is a state to judge alone
        if step >= 0:
            for group in optimiser.param_groups:
                group["lr"] = protocol.rate((step + 1) / total) * group["share"]
            module.train()
            optimiser.zero_grad()
            backward(step)
            if clip is not None:
                nn.utils.clip_grad_norm_(parameters, clip)
            optimiser.step()
            if progress is not None:
                progress.update(1)
        if score is not None and (step + 1) % each == 0:
            module.eval()
            found = score()
            if is_better(found, None if best is None else best[0]):
                best = (found, [copy.deepcopy(one.state_dict()) for one in kept])
    module.eval()
    if best is None:
        return None
    for one, state in zip(kept, best[1], strict=True):
        one.load_state_dict(state)
    return best[0]


def is_better(score: float, best: float | None) -> bool:
    """Whether a later state is to be kept: on a par counts, no score (NaN) does not.

    A handful of validation examples is soon told apart by chance, in the warm-up already; of states that
    score alike the one trained for longest is the best bet.
    """
    return not math.isnan(score) and (best is None or score >= best)


def classification_loss(
    onehot: np.ndarray, weights: np.ndarray, multi_label: bool, smoothing: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """Cross-entropy with label smoothing; binary cross-entropy a label for multi-label."""
    wanted, weight = torch.from_numpy(onehot), torch.from_numpy(weights)
    if multi_label:
        soft = wanted * (1 - smoothing) + smoothing / 2
        return lambda logits, rows: F.binary_cross_entropy_with_logits(
            logits, soft[rows], weight=weight[rows]
        )
    soft = wanted * (1 - smoothing) + smoothing / wanted.shape[1]
    return lambda logits, rows: -(logits.log_softmax(1) * soft[rows] * weight[rows]).sum(1).mean()


def fit_temperature(logits: np.ndarray, onehot: np.ndarray, multi_label: bool) -> float:
    """The temperature that logits are divided by for the least cross-entropy (Guo et al., ICML 2017).

    It is held to 1 by a prior (normal on its logarithm) that some dozen examples outweigh.

    Args:
        logits: ``(N, C)`` of a validation part.
        onehot: ``(N, C)`` its labels.
        multi_label: sigmoid a class instead of softmax.

    Returns:
        Between 0.05 and 20.
    """
    from scipy.optimize import minimize_scalar

    def cost(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        prior = _PRIOR * log_temperature**2 / 2
        if multi_label:
            return float((np.logaddexp(0, scaled) - onehot * scaled).mean(1).sum()) + prior
        peak = scaled.max(1, keepdims=True)
        log_total = peak[:, 0] + np.log(np.exp(scaled - peak).sum(1))
        return float((log_total - (onehot * scaled).sum(1)).sum()) + prior

    found = minimize_scalar(cost, bounds=(np.log(_LOWEST), np.log(_HIGHEST)), method="bounded")
    return float(np.exp(found.x))


@contextmanager
def one_thread() -> Iterator[None]:
    """A single thread inside: threads that share matrices this small wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
