"""Which pooling makes the best embedding, chosen on half of the patients and reported on the others.

    python benchmarks/pooling.py --model weights/fundus2video --root "$RETINA_FM_TEST_DATA" --out pooling.json

Reads the statistics of every photo once (kept in --cache), then compares blocks of them and linear maps to an
embedding by linear probes and by retrieval of the fellow eye. What a linear map is fitted on are the
photographs of ``--fit`` (the training part of IDRiD), without labels.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tables import table, written

from retina_fm._io.files import written_beside
from retina_fm.encoding.embedder import load_fast
from retina_fm.evaluation.classifying import run_cell
from retina_fm.evaluation.suite import Suite, read_suite
from retina_fm.evaluation.tasks import Task
from retina_fm.network import Encoder
from retina_fm.network.pooling import DECODED, SHARES
from retina_fm.training.pretraining.export import even_rotation, principal_directions

Floats = NDArray[np.floating[Any]]
Blocks = dict[str, Floats]
LEVELS = ("level0", "level1", "level2", "level3")
BESIDE = ("colour", "anatomy")
# Variance of the decoder's lesions, of colour and of the anatomy, as multiples of other blocks'.
TRIED = ((7, 1, 0), (7, 3, 0), (7, 1, 2), (7, 3, 3), (14, 3, 4), (14, 7, 5))


def collect(encoder: Any, paths: Sequence[Path], size: int, place: Path) -> Blocks:
    """Statistics of photos by block, and the average of the last map; from ``place`` where they are there."""
    if not place.is_file():
        transform = dataclasses.replace(encoder.transform, size=size)
        rows, averages = [], []
        for path in paths:
            view = torch.from_numpy(transform.normalise(transform.view(path)[0]))[None].to(encoder.dtype)
            with torch.inference_mode():
                statistics, maps, *_ = Encoder._run(encoder, view, None, keep_maps=True)
            rows.append(statistics.float().numpy())
            averages.append(maps[-1].float().mean((2, 3)).numpy())
        place.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(place) as scratch, scratch.open("wb") as file:
            np.savez(file, statistics=np.concatenate(rows), average=np.concatenate(averages))
    found = np.load(place)
    sizes = list(encoder.pooling.blocks.values())
    parts = np.split(found["statistics"], np.cumsum(sizes)[:-1], axis=1)
    return {**dict(zip(encoder.pooling.blocks, parts, strict=True)), "average": found["average"]}


def scaled(blocks: Blocks, fit: Blocks, names: Sequence[str], shares: Mapping[str, float] = SHARES) -> Floats:
    """Chosen blocks side by side: each statistic centred and scaled, each block of its share of variance."""
    parts = []
    for name in names:
        spread = fit[name].std(0)
        spread = np.maximum(spread, 0.1 * np.median(spread) + 1e-6)
        share = shares.get(name, 1)
        parts.append((blocks[name] - fit[name].mean(0)) / spread * np.sqrt(share / len(spread)))
    return np.concatenate(parts, 1) * np.sqrt(1000)


def variants(present: Collection[str]) -> dict[str, Callable[[Blocks, Blocks], Floats]]:
    """Poolings by name: blocks of the photos and of the photographs to fit on, to features."""
    quantiles = (*LEVELS, "last")
    lesions = tuple(name for name in ("lesions", DECODED) if name in present)
    beside = tuple(name for name in BESIDE if name in present)
    whole = (*quantiles, *lesions, *beside)

    def plain(*names: str) -> Callable[[Blocks, Blocks], Floats]:
        return lambda blocks, fit: scaled(blocks, fit, names)

    def mapped(
        length: int, kind: str, shares: Mapping[str, float] = SHARES
    ) -> Callable[[Blocks, Blocks], Floats]:
        names = [name for name in whole if shares.get(name, 1)]

        def apply(blocks: Blocks, fit: Blocks) -> Floats:
            values, known = scaled(blocks, fit, names, shares), scaled(fit, fit, names, shares)
            if kind == "random":
                known = np.zeros_like(known)  # no principal directions: all are drawn
            rows = principal_directions(torch.from_numpy(known - known.mean(0)), length)
            if kind == "even":
                rows = even_rotation(rows)
            return np.asarray(values @ rows.numpy().T)

        return apply

    found = {
        "average of the last map": plain("average"),
        "quantiles of the stem": plain("level0"),
        "quantiles, stem to first downsampling": plain(*LEVELS[:2]),
        "quantiles, stem to third downsampling": plain(*LEVELS),
        "the same and spread of the last map": plain(*quantiles),
    }
    if "lesions" in lesions:
        found["the heads' lesion statistics alone"] = plain("lesions")
        found["quantiles and the heads' lesion statistics"] = plain(*LEVELS, "lesions")
    if DECODED in lesions:
        found["the decoder's lesion statistics alone"] = plain(DECODED)
        found["quantiles and the decoder's lesion statistics"] = plain(*LEVELS, DECODED)
    found |= {f"{name} alone": plain(name) for name in beside}
    found["all blocks"] = plain(*whole)
    for length in (256, 512, 1024):
        found[f"all blocks, {length} principal directions"] = mapped(length, "principal")
        found[f"all blocks, {length} principal directions turned"] = mapped(length, "even")
        found[f"all blocks, {length} random directions"] = mapped(length, "random")
    for tried in TRIED if beside == BESIDE else ():
        shares = dict(zip((DECODED, *BESIDE), tried, strict=True))
        found[f"512 turned, shares {tried}"] = mapped(512, "even", shares)
    return found


def half_of(task: Task, part: int) -> Task:
    """The task on every second patient, in folds instead of official parts."""
    names = {patient: number % 2 for number, patient in enumerate(sorted(set(task.patients.tolist())))}
    keep = np.array([names[patient] == part for patient in task.patients.tolist()])
    chosen = np.flatnonzero(keep)
    return dataclasses.replace(
        task,
        rows=tuple(task.rows[i] for i in chosen),
        positions=task.positions[chosen],
        truth=task.truth[chosen],
        patients=task.patients[chosen],
        official=None,
    )


def figure(features: Floats, task: Task, suite: Suite, protocol: str) -> float:
    """AUROC of the probe, or Recall@1."""
    setting = {"probe": "linear", "retrieval": "cosine"}[protocol]
    settings = suite.settings.model_copy(update={"bootstrap": 2, "permutations": 2})
    cell = run_cell(protocol, setting, features, task, task.patients, settings, None)
    if isinstance(cell, str):
        return float("nan")
    found = cell.figures["auroc" if protocol == "probe" else "recall@1"]
    return float(found["mean"])


def main() -> None:
    """Collect, compare, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--suite", default=str(Path(__file__).parent / "development.toml"))
    parser.add_argument("--root", required=True, type=Path)
    parser.add_argument("--fit", default="idrid", help="set whose training part linear maps are fitted on")
    parser.add_argument("--size", type=int, help="side of the views (the model's)")
    parser.add_argument("--cache", type=Path, default=Path("pooling-cache"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    suite = read_suite(arguments.suite, root=arguments.root)
    encoder, _ = load_fast(arguments.model)
    size = arguments.size or encoder.transform.size
    jobs = [(a.task, p) for a in suite.asked for p in a.protocols if p in ("probe", "retrieval")]
    sets: dict[str, Blocks] = {}
    for name in {task.data for task, _ in jobs}:
        rows = suite.manifest(name).rows
        place = arguments.cache / f"{encoder.weights_sha256[:12]}-{size}-{name}.npz"
        sets[name] = collect(encoder, [Path(row.path) for row in rows], size, place)
        print(f"{name}: {len(rows)} photos", flush=True)
    train = np.array([row.split == "train" for row in suite.manifest(arguments.fit).rows])
    fit = {name: values[train] for name, values in sets[arguments.fit].items()}
    found: dict[str, dict[str, Any]] = {}
    halves: dict[str, list[list[float]]] = {}
    for name, pooled in variants(encoder.pooling.blocks).items():
        features = {data: pooled(blocks, fit) for data, blocks in sets.items()}
        whole = {t.name: figure(features[t.data][t.positions], t, suite, p) for t, p in jobs}
        halves[name] = [
            [
                figure(features[h.data][h.positions], h, suite, p)
                for h, p in ((half_of(t, part), p) for t, p in jobs)
            ]
            for part in (0, 1)
        ]
        mean = float(np.nanmean(list(whole.values())))
        found[name] = {"length": int(features[jobs[0][0].data].shape[1]), "mean": mean, **whole}
    heads = ["pooling", *next(iter(found.values()))]
    print(table(heads, [(name, *figures.values()) for name, figures in found.items()]), flush=True)
    chosen = []
    for part in (0, 1):
        best = max(halves, key=lambda name: float(np.nanmean(halves[name][part])))
        other = float(np.nanmean(halves[best][1 - part]))
        chosen.append(
            {"chosen": best, "on its half": float(np.nanmean(halves[best][part])), "on the other": other}
        )
        print(f"chosen on half {part}: {best}; mean on the other half {other:.3f}")
    if arguments.out:
        result = {"model": encoder.name, "weights_sha256": encoder.weights_sha256, "size": size}
        written(arguments.out, {**result, "table": found, "nested": chosen})


if __name__ == "__main__":
    main()
