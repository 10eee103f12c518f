"""Retrieval of the same patient: Recall@K as the paper defines it, and the share of pictures found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retina_fm.metrics.intervals import finite, mean_interval, patient_weights, percentile_interval
from retina_fm.metrics.scores import Floats

KS = (1, 5, 10)


class Retrieved(NamedTuple):
    """What every query found.

    Attributes:
        queries: positions of pictures whose patient has another one.
        hits: bool ``(Q, len(ks))``: a picture of the same patient is among the K nearest, the query left out.
        found: ``(Q, len(ks))``: share of the patient's other pictures among them.
        order: ``(Q, max(ks))`` positions of the nearest.
    """

    queries: NDArray[np.int64]
    hits: NDArray[np.bool_]
    found: Floats
    order: NDArray[np.int64]


def retrieve(features: Floats, patients: NDArray[np.str_], *, ks: Sequence[int] = KS) -> Retrieved:
    """Rank all pictures by the cosine of their features, for every picture whose patient has another.

    Equal likenesses are ranked by position, which favours nobody as long as the rows of a patient are not
    sorted to the front.
    """
    unit = np.asarray(features, np.float64)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    _, member, counts = np.unique(patients, return_inverse=True, return_counts=True)
    queries = np.flatnonzero(counts[member] > 1)
    likeness = unit[queries] @ unit.T
    likeness[np.arange(len(queries)), queries] = -np.inf
    order = np.argsort(-likeness, axis=1, kind="stable")[:, : max(ks)]
    same = member[order] == member[queries][:, None]
    others = counts[member[queries]] - 1
    hits = np.stack([same[:, :k].any(1) for k in ks], 1)
    found = np.stack([same[:, :k].sum(1) / others for k in ks], 1)
    return Retrieved(queries, hits, found, order)


def retrieval_figures(
    retrieved: Retrieved,
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
    weights = patient_weights(who, samples, seed) if samples else None
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
        figures[name] = {"mean": finite(mean), "low": mean - spread, "high": mean + spread}
        if weights is not None:
            low, high = percentile_interval(weights @ values / weights.sum(1))
            figures[name]["bootstrap"] = {"low": low, "high": high}
    return figures


def by_modality(
    features: Floats, patients: NDArray[np.str_], modality: NDArray[np.str_], *, ks: Sequence[int] = KS
) -> dict[str, dict[str, float]]:
    """Recall@K for each ordered pair of modalities: queries of one, only pictures of the other searched."""
    found: dict[str, dict[str, float]] = {}
    unit = np.asarray(features, np.float64)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    for source in np.unique(modality).tolist():
        for target in np.unique(modality).tolist():
            queries, pool = np.flatnonzero(modality == source), np.flatnonzero(modality == target)
            likeness = unit[queries] @ unit[pool].T
            likeness[queries[:, None] == pool[None]] = -np.inf
            same = (patients[queries][:, None] == patients[pool][None]) & (queries[:, None] != pool[None])
            asked = same.any(1)
            if not asked.any():
                continue
            order = np.argsort(-likeness[asked], axis=1, kind="stable")
            ranked = np.take_along_axis(same[asked], order, axis=1)
            found[f"{source} -> {target}"] = {
                "queries": int(asked.sum()),
                **{f"recall@{k}": float(ranked[:, :k].any(1).mean()) for k in ks},
            }
    return found
