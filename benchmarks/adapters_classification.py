"""Diagnosis with heads by name: few-shot and full, with and without fusion, class weights on rare classes.

    python benchmarks/adapters_classification.py --model FOLDER [--fuse-with retfound] [--sets idrid rahim]

$RETINA_FM_TEST_DATA is read: idrid_grading (official split, rows with use=yes), rahim_dev and odir_dev (five
folds by patient). ``--stand-in`` fuses RETFound's architecture with random weights, which stands in for the
user's own file; its rows say so. Embeddings are computed once.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from tables import interval, written

import retina_fm
from retina_fm.adapters import draw_examples
from retina_fm.adapters.heads.by_name import CLASSIFIERS, make_head
from retina_fm.encoding import encode_to
from retina_fm.encoding.precision import choose_device, choose_precision
from retina_fm.models import BackboneEncoder, WeightsConfig
from retina_fm.models.backbones import KIND, create_backbone
from retina_fm.models.peers import PEERS

SHOTS = (1, 4, 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="fundus2video-random")
    parser.add_argument("--fuse-with")
    parser.add_argument("--stand-in", action="store_true")
    parser.add_argument("--sets", nargs="*", default=["idrid", "rahim", "odir"])
    parser.add_argument("--heads", nargs="*", default=["mlp", "linear", "nearest-mean"])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path("build/adapters-embeddings"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/adapters"))
    arguments = parser.parse_args()
    name = Path(arguments.model).name
    rows: list[dict[str, Any]] = []
    for source in arguments.sets:
        paths, tasks = {"idrid": idrid, "rahim": rahim, "odir": odir}[source]()
        parts = [embedded(paths, arguments.model, arguments.cache, source)]
        labels = ["alone"]
        if arguments.fuse_with:
            parts.append(embedded(paths, arguments.fuse_with, arguments.cache, source))
            labels.append(f"fused with {arguments.fuse_with}")
        elif arguments.stand_in:
            parts.append(embedded(paths, stand_in(), arguments.cache, source))
            labels.append("fused with RETFound's architecture, random weights")
        for task, (chosen, y, groups, split) in tasks.items():
            for label in labels:
                used = parts[:1] if label == "alone" else parts
                X = np.concatenate([part[chosen] for part in used], 1)  # noqa: N806
                widths = [part.shape[1] for part in used] if len(used) > 1 else None
                for head in arguments.heads if label == "alone" else ["mlp"]:
                    about = {"set": source, "task": task, "model": name, "encoders": label, "head": head}
                    found = figures(head, X, y, groups, split, widths, arguments.draws)
                    rows += [{**about, **row} for row in found]
                    for row in found:
                        middle = f"{row['auroc']['mean']:.3f}"
                        print(source, task, label[:9], head, row["shots"], row["weights"], middle, flush=True)
        written(arguments.out / f"classification_{name}.json", {"rows": rows})


def figures(
    head: str,
    X: np.ndarray,  # noqa: N803
    y: np.ndarray,
    groups: np.ndarray,
    split: np.ndarray | None,
    widths: Any,
    draws: int,
) -> list[dict[str, Any]]:
    """Few-shot over draws, and full over the official split or five folds."""
    rows = []
    train, test = (
        (np.flatnonzero(split == part) for part in ("train", "test")) if split is not None else (None, None)
    )
    for shots in SHOTS:
        scores = []
        for seed in range(draws):
            pool = np.arange(len(y)) if train is None else train
            try:
                draw = draw_examples(y[pool], shots, seed=seed, groups=groups[pool])
            except ValueError:
                break
            rest = pool[draw.rest] if test is None else test
            fitted = make_head(head, CLASSIFIERS, {"widths": widths, "seed": seed})
            fitted.fit(X[pool[draw.drawn]], y[pool[draw.drawn]])
            scores.append(auroc(fitted, X[rest], y[rest]))
        if len(scores) == draws:
            rows.append({"shots": shots, "weights": "none", "auroc": interval(scores)})
    counts = np.bincount(y)
    rare = counts.max() > 2 * counts.min()
    for weight in (None, "balanced") if rare and head != "nearest-mean" else (None,):
        if train is not None and test is not None:
            pairs = [(train, test)]
        else:
            pairs = list(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(X, y, groups))
        scores, sensitivity = [], []
        for seed, (a, b) in enumerate(pairs):
            fitted = make_head(head, CLASSIFIERS, {"widths": widths, "seed": seed, "class_weight": weight})
            fitted.fit(X[a], y[a], groups=groups[a])
            scores.append(auroc(fitted, X[b], y[b]))
            predicted = fitted.predict(X[b])
            sensitivity.append(np.mean([(predicted[y[b] == c] == c).mean() for c in np.unique(y[b])]))
        rows.append(
            {
                "shots": "all",
                "weights": weight or "none",
                "auroc": interval(scores),
                "balanced_accuracy": interval(sensitivity),
            }
        )
    return rows


def auroc(fitted: Any, X: np.ndarray, y: np.ndarray) -> float:  # noqa: N803
    probability = fitted.predict_proba(X)
    if probability.shape[1] == 2:
        return float(roc_auc_score(y, probability[:, 1]))
    return float(np.mean([roc_auc_score(y == c, probability[:, i]) for i, c in enumerate(fitted.classes_)]))


def embedded(paths: list[Path], model: Any, cache: Path, source: str) -> np.ndarray:
    """Embeddings from a table that survives interruptions."""
    import pyarrow.parquet as pq

    encoder = retina_fm.load(model) if isinstance(model, str) else model
    table = cache / f"{source}-{encoder.weights_sha256[:12]}.parquet"
    table.parent.mkdir(parents=True, exist_ok=True)
    encode_to(paths, table, model if isinstance(model, str) else encoder)
    column = pq.read_table(table, columns=["embedding"])["embedding"].combine_chunks()
    return np.asarray(column.values).reshape(len(column), -1).astype(np.float64)


def stand_in() -> BackboneEncoder:
    """RETFound's architecture with random weights: in the place of the file that a user has to request."""
    import torch

    peer = PEERS["retfound"]
    network = {"backbone": peer.backbone, "arguments": dict(peer.arguments)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = create_backbone(network)
    config = WeightsConfig(
        name="retfound-architecture-random",
        kind=KIND,
        network=network,
        transform=peer.transform,
        card=peer.card,
        seed=0,
    )
    place = choose_device(None)
    encoder: BackboneEncoder = BackboneEncoder(backbone, config).eval()
    return encoder.to(place, choose_precision("auto", place).dtype)


Task = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]


def read(folder: str) -> tuple[Path, list[dict[str, str]]]:
    root = Path(os.environ["RETINA_FM_TEST_DATA"]) / folder
    with (root / "labels.csv").open(encoding="utf-8-sig") as stream:
        return root, list(csv.DictReader(stream))


def idrid() -> tuple[list[Path], dict[str, Task]]:
    root, rows = read("idrid_grading")
    rows = [row for row in rows if row["use"] == "yes"]
    grade = np.array([int(row["dr_grade"]) for row in rows])
    split = np.array([row["split"] for row in rows])
    everything, groups = np.arange(len(rows)), np.arange(len(rows)).astype(str)
    tasks: dict[str, Task] = {
        "grades": (everything, grade, groups, split),
        "any DR": (everything, (grade > 0).astype(int), groups, split),
        "referable DR": (everything, (grade > 1).astype(int), groups, split),
    }
    return [root / "images" / row["path"] for row in rows], tasks


def rahim() -> tuple[list[Path], dict[str, Task]]:
    root, rows = read("rahim_dev")
    patients = np.array([row["patient_id"] for row in rows])
    tasks: dict[str, Task] = {}
    for name, column in (("any DR", "dr_grade"), ("maculopathy", "maculopathy")):
        graded = np.flatnonzero([row[column] != "" for row in rows])
        y = np.array([int(int(rows[i][column]) > 0) for i in graded])
        tasks[name] = (graded, y, patients[graded], None)
    return [root / "images" / row["path"] for row in rows], tasks


def odir() -> tuple[list[Path], dict[str, Task]]:
    root, rows = read("odir_dev")
    patients = np.array([row["patient_id"] for row in rows])
    tasks: dict[str, Task] = {}
    for flag in "DGCAM":
        kinds = [0 if row["label"] == "N" else 1 if flag in row["label"].split("|") else -1 for row in rows]
        chosen = np.flatnonzero(np.array(kinds) >= 0)
        tasks[f"normal against {flag}"] = (chosen, np.array(kinds)[chosen], patients[chosen], None)
    return [root / "images" / row["path"] for row in rows], tasks


if __name__ == "__main__":
    main()
