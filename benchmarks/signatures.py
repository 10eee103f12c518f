"""Signatures: fitted on photographs that may train, judged on others.

``RETINA_FM_TEST_DATA=... python benchmarks/signatures.py fit --work DIR --out FILE.safetensors``
``RETINA_FM_TEST_DATA=... python benchmarks/signatures.py judge --work DIR [--basis FILE] [--out FILE.json]``

DIR is what ``benchmarks/signatures_read.py`` wrote. ``fit`` takes ``hygd``, ``toxo``, ``rfmid2``, ``hrf`` and
the training part of ``idrid_grading``. ``judge`` asks for the same eye in ``tvhl_dev`` and ``grape`` (across
cameras: the eye's pictures by the query's own camera are left out), for ``tvhl_dev``'s queries changed, and
for the real angiograms of ``ffa_pairs_dev``, among all pictures that were read. A picture without a signature
counts as not found. Intervals: 95 %, bootstrap over patients.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from signatures_read import CHANGES

from retina_fm.indexes.recall import patient_bootstrap
from retina_fm.signatures import SignatureBasis, default_basis, fit_basis
from retina_fm.signatures.fitting import best_cosines

TRAINING = ("hygd", "toxo", "rfmid2", "hrf", "idrid_grading")
GALLERY = ("tvhl_dev", "grape", "odir_dev", "rahim_dev", "hygd", "toxo", "rfmid2", "hrf", "idrid_grading")
TABLES = {name: f"pretrain/{name}" for name in ("grape", "hygd", "toxo", "rfmid2", "hrf")}
RATES = (1e-3, 1e-4, 1e-5, 1e-6)


class Pictures(NamedTuple):
    """Patterns of pictures, and whose they are."""

    spectra: np.ndarray
    strength: np.ndarray
    names: np.ndarray
    eyes: np.ndarray
    patients: np.ndarray
    cameras: np.ndarray


def read(work: Path, name: str, change: str = "") -> Pictures | None:
    """What is there of a set."""
    key = name + (f"~{change}" if change else "")
    files = sorted(work.glob(f"{key}-[0-9]*.npz"), key=lambda file: int(file.stem.rpartition("-")[2]))
    files = [file for file in files if not file.stem.endswith(".part")]
    if not files:
        return None
    parts = [np.load(file) for file in files]
    spectra, strength, names = (
        np.concatenate([part[column] for part in parts]) for column in ("spectra", "strength", "names")
    )
    about = table(name)
    rows = [about.get(str(file), {}) for file in names]
    people = [row.get("patient_id") or str(file) for row, file in zip(rows, names, strict=True)]
    patients = np.array([f"{name} {person}" for person in people])
    eyes = np.array([f"{patient} {row.get('eye', '')}" for patient, row in zip(patients, rows, strict=True)])
    cameras = np.array([row.get("camera", name) for row in rows])
    return Pictures(spectra, strength, names, eyes, patients, cameras)


def table(name: str) -> dict[str, dict[str, str]]:
    """Rows of a set's ``labels.csv`` by file name."""
    place = Path(os.environ["RETINA_FM_TEST_DATA"]) / TABLES.get(name, name) / "labels.csv"
    if not place.exists():
        return {}
    with place.open(newline="") as stream:
        return {Path(row["path"]).name: row for row in csv.DictReader(stream)}


def fit(work: Path, out: Path, gate: float, lines_alone: bool) -> None:
    """A basis and its thresholds, from the sets that may train."""
    spectra, strength, groups = [], [], []
    for name in TRAINING:
        found = read(work, name)
        if found is None:
            print(f"{name} was not read")
            continue
        keep = np.ones(len(found.names), bool)
        if name == "idrid_grading":
            about = table(name)
            keep = np.array([about[str(file)]["split"] == "train" for file in found.names])
        spectra.append(found.spectra[keep])
        strength.append(found.strength[keep])
        # of the other sets no patients are known: two of their pictures may be of one eye
        groups.append(found.patients[keep] if name == "hygd" else np.repeat(name, int(keep.sum())))
        print(f"{name}: {int(keep.sum())} pictures, {(found.strength[keep] < gate).sum()} below the gate")
    basis = fit_basis(np.concatenate(spectra), np.concatenate(strength), np.concatenate(groups), gate=gate,
                      lines_alone=lines_alone)  # fmt: skip
    out.write_bytes(basis.to_bytes())
    print(
        f"{basis.hash}: {basis.length} numbers, {out.stat().st_size} bytes, discount {basis.discount[0]:.3f}"
    )
    for rate, upright, turned in zip(basis.rates, basis.upright, basis.turned, strict=True):
        print(f"  false accepts {rate:.1e}: {upright:.3f} upright, {turned:.3f} turned")


Scores = Callable[[np.ndarray, np.ndarray], np.ndarray]


def rank_one(
    scores: np.ndarray, same: np.ndarray, banned: np.ndarray, patients: np.ndarray
) -> dict[str, Any]:
    """Whether the nearest picture is of the same eye, of the queries that have one."""
    scores = np.where(banned, -2.0, scores)
    right = same & ~banned
    asked = right.any(axis=1)
    hit = right[np.arange(len(scores)), scores.argmax(axis=1)] & (scores.max(axis=1) > 0)
    interval = patient_bootstrap(hit[asked, None].astype(float), patients[asked])[0]
    return {"recall@1": interval.as_dict(), "queries": int(asked.sum()), "gallery": scores.shape[1]}


def judge(work: Path, basis: SignatureBasis, out: Path | None) -> None:
    """Every figure, printed and kept."""
    sets = {name: found for name in GALLERY if (found := read(work, name)) is not None}
    gallery = Pictures(*(np.concatenate(column) for column in zip(*sets.values(), strict=True)))
    signatures = signed(basis, gallery)
    gone = ~signatures.any(axis=1)
    figures: dict[str, Any] = {
        "gallery": {name: len(found.names) for name, found in sets.items()},
        "without_signature": {
            name: int((found.strength < basis.gate[0]).sum()) for name, found in sets.items()
        },
    }
    ways: dict[str, Scores] = {
        "upright": lambda queries, others: queries @ others.T,
        "turned": lambda queries, others: in_blocks(basis, queries, others),
    }
    for way, scores in ways.items():
        for name in ("tvhl_dev", "grape"):
            own = np.isin(gallery.eyes, sets[name].eyes)
            rows = np.flatnonzero(own)
            found = scores(signatures[rows], signatures)
            same = gallery.eyes[rows, None] == gallery.eyes
            itself = rows[:, None] == np.arange(len(signatures))
            note = figures.setdefault(name, {})
            note[way] = rank_one(found, same, itself, gallery.patients[rows])
            if name == "grape":
                camera = gallery.cameras[rows, None] == gallery.cameras
                note[f"{way}, other camera"] = rank_one(
                    found, same, itself | (same & camera), gallery.patients[rows]
                )
            if name == "tvhl_dev":
                for change in CHANGES:
                    changed = read(work, name, change)
                    if changed is None:
                        continue
                    asked = scores(signed(basis, changed), signatures)
                    mine = changed.eyes[:, None] == gallery.eyes
                    itself = changed.names[:, None] == gallery.names
                    note[f"{way}, {change}"] = rank_one(asked, mine, itself & mine, changed.patients)
        figures[f"curve, {way}"] = curve(basis, scores, gallery, signatures, gone, way == "turned")
    figures["ffa_pairs_dev"] = angiograms(work, basis, gallery, signatures, ways)
    print(json.dumps(figures, indent=1))
    if out is not None:
        out.write_text(json.dumps(figures, indent=1) + "\n")


def signed(basis: SignatureBasis, found: Pictures) -> np.ndarray:
    """Signatures, zeros below the gate."""
    rows = basis.project(found.spectra)
    rows[found.strength < basis.gate[0]] = 0
    return rows


def in_blocks(basis: SignatureBasis, queries: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Best cosines over turns, in bounded memory."""
    return np.concatenate(
        [best_cosines(basis, queries[i : i + 32], others) for i in range(0, len(queries), 32)]
    )


def curve(
    basis: SignatureBasis,
    scores: Scores,
    gallery: Pictures,
    signatures: np.ndarray,
    gone: np.ndarray,
    turned: bool,
) -> dict[str, Any]:
    """Pairs of one eye found, and false accepts that really came, at thresholds that were fitted elsewhere.

    Different eyes: pairs among the development sets that are of two patients.
    """
    chosen = np.array([not patient.startswith(TRAINING) for patient in gallery.patients]) & ~gone
    rows = np.flatnonzero(chosen)
    cosines = scores(signatures[rows], signatures[rows])
    upper = np.triu(np.ones(cosines.shape, bool), 1)
    same = (gallery.eyes[rows, None] == gallery.eyes[rows]) & upper
    apart = (gallery.patients[rows, None] != gallery.patients[rows]) & upper
    fellow = upper & ~same & ~apart
    found: dict[str, Any] = {"same": int(same.sum()), "different": int(apart.sum())}
    for rate in RATES:
        limit = basis.threshold(rate, turned=turned)
        found[f"{rate:.0e}"] = {
            "cosine": round(limit, 3),
            "found": round(float((cosines[same] >= limit).mean()), 4),
            "false_accepts": float((cosines[apart] >= limit).mean()),
            "other_eye": round(float((cosines[fellow] >= limit).mean()), 4) if fellow.any() else None,
        }

    def named(place: Any) -> str:
        row = rows[place]
        return f"{gallery.patients[row]}: {gallery.names[row]}, strength {gallery.strength[row]:.1f}"

    worst = np.argsort(-np.where(apart, cosines, -2), axis=None)[:10]
    pairs = [np.unravel_index(place, cosines.shape) for place in worst]
    found["worst"] = [[round(float(cosines[pair]), 3), *map(named, pair)] for pair in pairs]
    return found


def angiograms(
    work: Path, basis: SignatureBasis, gallery: Pictures, signatures: np.ndarray, ways: dict[str, Scores]
) -> dict[str, Any]:
    """Photo to angiogram and back among these pairs, and photo to angiogram among the whole gallery."""
    found = read(work, "ffa_pairs_dev")
    if found is None:
        return {}
    about = table("ffa_pairs_dev")
    dyed = np.array([about[str(name)]["modality"] == "ffa" for name in found.names])
    rows = signed(basis, found)
    figures: dict[str, Any] = {}
    for way, scores in ways.items():
        for label, asked, answered in (("photo to frame", ~dyed, dyed), ("frame to photo", dyed, ~dyed)):
            others = np.concatenate([rows[answered], signatures])
            eyes = np.concatenate([found.patients[answered], gallery.eyes])
            cosines = scores(rows[asked], others)
            same = found.patients[asked][:, None] == eyes
            best = np.where(same, cosines, -2).max(axis=1)
            nearer = np.where(same, -2, cosines) > best[:, None]
            figures[f"{way}, {label}"] = {
                "ranks among the pairs": (1 + nearer[:, : answered.sum()].sum(axis=1)).tolist(),
                "ranks among all": (1 + nearer.sum(axis=1)).tolist(),
                "cosines": [round(float(value), 2) for value in best],
                "gallery": len(others),
            }
    return figures


def main() -> None:
    """Fit or judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("fit", "judge"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--basis", type=Path)
    parser.add_argument("--gate", type=float, default=2.8)
    parser.add_argument("--network", action="store_true", help="DIR was read with --model")
    arguments = parser.parse_args()
    if arguments.what == "fit":
        fit(arguments.work, arguments.out, arguments.gate, not arguments.network)
        return
    given = arguments.basis
    basis = default_basis() if given is None else SignatureBasis.from_bytes(given.read_bytes(), str(given))
    judge(arguments.work, basis, arguments.out)


if __name__ == "__main__":
    main()
