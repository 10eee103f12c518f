"""Retrieval of the same patient: Recall@K as the paper defines it, and the share of pictures found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm.evaluation.cells import Cell
from retina_fm.evaluation.protocols.retrieval_questions import Scorer
from retina_fm.evaluation.tasks import Task
from retina_fm.metrics.intervals import (
    bootstrap_of,
    finite,
    mean_interval,
    patient_weights,
    sign_flip_test,
    weighted_means,
)
from retina_fm.metrics.recall import KS, RecallHits, recall_hits
from retina_fm.metrics.scores import Floats

_BLOCK = 256


def retrieve(features: Floats | Scorer, patients: NDArray[np.str_], *, ks: Sequence[int] = KS) -> RecallHits:
    """Rank all pictures by the cosine of their features, for every picture whose patient has another.

    Args:
        features: ``(N, D)``, or what says how alike some rows are to all.
        patients: of the rows.
        ks: numbers of neighbours.
    """
    if not callable(features):
        return recall_hits(features, patients, ks)

    def nearest(rows: NDArray[np.int64], k: int) -> NDArray[np.int64]:
        order = np.full((len(rows), k), -1, np.int64)
        for start in range(0, len(rows), _BLOCK):
            some = rows[start : start + _BLOCK]
            scores = np.array(features(some), np.float64)
            scores[np.arange(len(some)), some] = -np.inf
            best = np.argsort(-scores, axis=1, kind="stable")[:, : min(k, scores.shape[1] - 1)]
            order[start : start + len(some), : best.shape[1]] = best
        return order

    return recall_hits(nearest, patients, ks)


def retrieval_figures(
    retrieved: RecallHits,
    patients: NDArray[np.str_],
    *,
    ks: Sequence[int] = KS,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Recall@K and its mean over K (the paper, Methods), each with a bootstrap over patients.

    Nothing is drawn, so the interval of ``low`` and ``high`` is that of 1.96 standard errors over patients'
    means, and ``bootstrap`` resamples patients.
    """
    who = patients[retrieved.queries]
    weights = patient_weights(who, samples, seed)
    columns = {f"recall@{k}": retrieved.hits[:, i].astype(float) for i, k in enumerate(ks)}
    columns["recall_mean"] = retrieved.hits.mean(1)
    columns |= {f"found@{k}": retrieved.found[:, i] for i, k in enumerate(ks)}
    _, member = np.unique(who, return_inverse=True)
    size = np.bincount(member)
    figures: dict[str, Any] = {}
    for name, values in columns.items():
        by_patient = np.bincount(member, weights=values) / size
        half = mean_interval(by_patient)
        mean = float(values.mean())
        spread = 0.0 if half.high is None else half.high - half.mean
        figures[name] = {
            "mean": finite(mean), "low": mean - spread, "high": mean + spread,
            **bootstrap_of(weighted_means(values, weights)),
        }  # fmt: skip
    return figures


def compare_retrieval(first: Cell, second: Cell, task: Task, *, samples: int) -> dict[str, float | None]:
    """Two models' hits of the same queries: difference of mean recall, signs flipped over patients."""
    one, two = (np.mean(list(cell.extra["hits"].values()), axis=0) for cell in (first, second))
    _, member, counts = np.unique(task.patients, return_inverse=True, return_counts=True)
    _, who = np.unique(member[counts[member] > 1], return_inverse=True)
    gap = np.bincount(who, weights=one - two)
    return {
        "difference": float((one - two).mean()),
        "t_test_p": None,
        "permutation_p": sign_flip_test(gap, samples=max(samples, 1)),
    }


def by_modality(
    features: Floats, patients: NDArray[np.str_], modality: NDArray[np.str_], *, ks: Sequence[int] = KS
) -> dict[str, dict[str, float]]:
    """Recall@K for each ordered pair of modalities: queries of one, only pictures of the other searched."""
    found: dict[str, dict[str, float]] = {}
    for source in np.unique(modality).tolist():
        for target in np.unique(modality).tolist():
            one = recall_hits(features, patients, ks, queries=modality == source, gallery=modality == target)
            if len(one.queries):
                shares = dict(zip(ks, one.hits.mean(0).tolist(), strict=True))
                found[f"{source} -> {target}"] = {
                    "queries": len(one.queries),
                    **{f"recall@{k}": share for k, share in shares.items()},
                }
    return found
