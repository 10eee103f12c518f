"""Probabilities that mean what they say: one temperature, fitted on examples not trained on."""

from __future__ import annotations

import numpy as np

_LOWEST, _HIGHEST = 0.05, 20.0
_PRIOR = 2.0
"""Weight of ``log(temperature)**2 / 2``, in examples: two that are told apart would call for certainty."""


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
