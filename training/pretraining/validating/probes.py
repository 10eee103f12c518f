"""Linear probes and same-patient recall of a generator's encoder, while it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from retina_fm._io.label_tables import one_spelling, read_label_table
from retina_fm._io.persons import persons
from retina_fm.errors import ConfigError
from retina_fm.metrics.recall import recall_hits
from retina_fm.network import Generator, encoder_of
from retina_fm.pictures import Transform

PROBE_PICTURES = 600
_LEAST_A_LABEL = 10  # a label of fewer pictures cannot be judged in five folds


@torch.no_grad()
def probe(
    generator: Generator, table: str | Path, size: int, *, limit: int = PROBE_PICTURES
) -> dict[str, float]:
    """Linear probe and same-patient recall on a folder with a ``labels.csv``, on the raw statistics.

    Statistics are standardised; logistic regression in five folds that keep a patient together gives the
    mean one-against-rest AUROC; recall is how often the nearest other picture (cosine) is of the same
    patient.

    Args:
        generator: whose encoder is probed.
        table: with columns ``path`` and ``label``, and ``patient_id`` where patients are known.
        size: of the views.
        limit: pictures at most, the first of the table.

    Raises:
        ConfigError: the table has no such columns, or too few pictures a label.
    """
    rows = probe_rows(table)[:limit]
    folds = probe_folds(rows, table)
    encoder = encoder_of(generator).eval()
    transform = Transform(size=size)
    device = next(encoder.parameters()).device
    statistics = []
    for row in rows:
        view = transform.normalise(transform.view(row["path"])[0])
        statistics.append(encoder.statistics(torch.from_numpy(view)[None].to(device)).float().cpu())
    features = torch.cat(statistics).numpy()
    spread = features.std(0)
    features = (features - features.mean(0)) / np.maximum(spread, 0.1 * np.median(spread) + 1e-6)
    patients = _patients(rows)
    figures = {"auroc": _probe_auroc(features, folds)}
    if len(set(patients)) < len(patients):
        figures["recall@1"] = recall_at_1(features, patients)
    return figures


def recall_at_1(features: NDArray[Any], patients: Sequence[str]) -> float:
    """How often the nearest other picture is of the same patient, over pictures that have another."""
    return float(recall_hits(features, patients, (1,)).hits.mean())


@dataclass(frozen=True)
class ProbeFolds:
    """Which pictures a probe judges, and in which parts.

    Attributes:
        chosen: bool ``(N,)``, pictures whose label is frequent enough.
        truth: their labels as numbers from 0.
        parts: positions among them to train on and to judge; every label is in every part to train on.
    """

    chosen: NDArray[np.bool_]
    truth: NDArray[np.intp]
    parts: list[tuple[NDArray[np.intp], NDArray[np.intp]]]


def probe_folds(rows: Sequence[Mapping[str, str]], table: str | Path) -> ProbeFolds:
    """Five folds of labelled pictures that keep a patient together; fewer where there are fewer patients.

    Raises:
        ConfigError: fewer than two labels have ten pictures, or a label is of one patient.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names, classes, counts = np.unique(
        [row["label"] for row in rows], return_inverse=True, return_counts=True
    )
    chosen = counts[classes] >= _LEAST_A_LABEL
    kept, truth = np.unique(classes[chosen], return_inverse=True)
    if len(kept) < 2:
        found = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
        raise ConfigError(
            f"A probe needs two labels with {_LEAST_A_LABEL} pictures each; the {len(rows)} pictures that it "
            f"reads of {table} have {found}. Add pictures, or mix the order of the rows."
        )
    patients = np.asarray(_patients(rows))[chosen]
    count = min(5, len(set(patients)))
    folds = StratifiedGroupKFold(max(2, count), shuffle=True, random_state=0)
    parts = list(folds.split(truth, truth, patients)) if count > 1 else []
    parts = [part for part in parts if len(part[1])]  # large patients may leave a fold without any
    if not parts or any(len(np.unique(truth[train])) < len(kept) for train, _ in parts):
        raise ConfigError(
            f"{table} has a label of too few patients: a probe must train on each label without the patients "
            "that it judges. Add pictures of others with that label, or drop the label."
        )
    return ProbeFolds(chosen, truth, parts)


def _patients(rows: Sequence[Mapping[str, str]]) -> list[str]:
    known = persons([row.get("patient_id") for row in rows])
    return [f"row {number} (nobody named)" if who is None else who for number, who in enumerate(known)]


def _probe_auroc(features: NDArray[Any], folds: ProbeFolds) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict

    scores = cross_val_predict(
        LogisticRegression(C=0.01, max_iter=300, class_weight="balanced"),
        features[folds.chosen],
        folds.truth,
        cv=folds.parts,
        method="predict_proba",
    )
    return float(np.mean([roc_auc_score(folds.truth == k, scores[:, k]) for k in range(scores.shape[1])]))


def probe_names(tables: Sequence[str | Path]) -> list[str]:
    """A name a table, no two alike: its folder's, with what lies above where folders are named alike."""
    places = [Path(table).absolute() for table in tables]
    names = [place.parent.name for place in places]
    if len(set(names)) < len(names):
        names = ["/".join(place.parent.parts[-2:]) for place in places]
    if len(set(names)) < len(names):
        names = [f"{number} {name}" for number, name in enumerate(names, start=1)]
    return names


def probe_rows(table: str | Path) -> list[dict[str, str]]:
    """Labelled rows of a table, with paths that exist: relative to the table or to ``images`` beside it.

    Raises:
        ConfigError: there is no such table, it lacks columns, or a picture of it is not there.
    """
    source = Path(table)
    rows = read_label_table(source).rows
    if not rows or "path" not in rows[0] or "label" not in rows[0]:
        raise ConfigError(f"{source} needs columns path and label (and patient_id) for a probe.")
    for row in rows:
        places = [source.parent / row["path"], source.parent / "images" / row["path"]]
        there = [place for place in places if place.is_file()]
        if not there:
            raise ConfigError(f"{source} names {row['path']}, which is not beside it. Check the column path.")
        row["path"] = str(there[0])
    for row, label in zip(rows, one_spelling([row["label"] for row in rows])[0], strict=True):
        row["label"] = label
    return [row for row in rows if row["label"]]
