"""Whitening within persons for a weights folder: fitted on persons with several pictures, and judged.

``python benchmarks/whitening.py WEIGHTS EMBEDDINGS.parquet=LABELS.csv ... [--judge ...] [--out]``

Labels have the columns path, patient_id and, where it is known, eye. The other eye's Recall@1 is printed for
what ships and for the new fit, on the persons left out of four fits (``EMBEDDINGS=LABELS``) and on sets that
the fit does not see (``--judge``). ``--out`` writes the fit into the folder; without it nothing is changed.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from retina_fm.models import fit_within_persons, read_whitening, save_whitening
from retina_fm.models.whitening import Whitening

FOLDS = 4


class Pictures(NamedTuple):
    name: str
    embeddings: np.ndarray
    persons: np.ndarray
    eyes: np.ndarray

    def of(self, rows: np.ndarray) -> Pictures:
        return Pictures(self.name, self.embeddings[rows], self.persons[rows], self.eyes[rows])


def read(text: str) -> Pictures:
    """Rows of a table of embeddings that its labels know, by file name."""
    table, labels = (Path(part) for part in text.split("=", 1))
    with labels.open(newline="") as lines:
        known = {Path(row["path"]).name: row for row in csv.DictReader(lines)}
    rows = pq.read_table(table, columns=["path", "embedding"]).to_pylist()
    rows = [row for row in rows if Path(row["path"]).name in known]
    about = [known[Path(row["path"]).name] for row in rows]
    return Pictures(
        table.stem,
        np.array([row["embedding"] for row in rows], np.float32),
        np.array([f"{table.stem} {one['patient_id']}" for one in about]),
        np.array([one.get("eye") or "" for one in about]),
    )


def other_eye(pictures: Pictures, whitening: Whitening | None) -> np.ndarray:
    """Whether each picture's nearest is of its person; its own eye left out, and who has no other eye."""
    points = whitening.apply(pictures.embeddings) if whitening else pictures.embeddings
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
    person = pictures.persons[:, None] == pictures.persons
    own = person & (pictures.eyes[:, None] == pictures.eyes)
    cosine = np.where(own, -2.0, points @ points.T)
    return np.asarray(person[np.arange(len(points)), cosine.argmax(1)][(person & ~own).any(1)])


def fit(sets: list[Pictures]) -> Whitening:
    """One fit over sets; each person belongs to one set."""
    return fit_within_persons(
        np.concatenate([one.embeddings for one in sets]),
        [person for one in sets for person in one.persons],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("sets", nargs="+", metavar="EMBEDDINGS=LABELS")
    parser.add_argument("--judge", nargs="*", default=[], metavar="EMBEDDINGS=LABELS")
    parser.add_argument("--out", action="store_true", help="write the fit into the weights folder")
    arguments = parser.parse_args()
    shipped = read_whitening(arguments.weights)
    sets = [read(text) for text in arguments.sets]
    random = np.random.default_rng(0)
    folds = [
        dict(zip(random.permutation(np.unique(one.persons)), range(10**6), strict=False)) for one in sets
    ]
    for number, one in enumerate(sets):
        if not one.eyes.any():
            continue
        found: dict[str, list[np.ndarray]] = {"plain": [], "shipped": [], "within persons": []}
        for fold in range(FOLDS):
            kept = [
                part.of(np.array([places[person] % FOLDS != fold for person in part.persons]))
                for part, places in zip(sets, folds, strict=True)
            ]
            left = one.of(np.array([folds[number][person] % FOLDS == fold for person in one.persons]))
            for name, whitening in zip(found, (None, shipped, fit(kept)), strict=True):
                found[name].append(other_eye(left, whitening))
        print(f"{one.name}, persons left out: " + shown({k: np.concatenate(v) for k, v in found.items()}))
    whole = fit(sets)
    for one in map(read, arguments.judge):
        named = {"plain": None, "shipped": shipped, "within persons": whole}
        print(f"{one.name}: " + shown({name: other_eye(one, fitted) for name, fitted in named.items()}))
    if arguments.out:
        save_whitening(arguments.weights, whole)
        print(f"{arguments.weights}: whitening within persons, {len(whole.directions)} directions")


def shown(found: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{name} {hits.mean():.3f} ({len(hits)})" for name, hits in found.items())


if __name__ == "__main__":
    main()
