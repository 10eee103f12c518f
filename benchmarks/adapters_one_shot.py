"""Dice by time of a one-shot fit: the same decoder fitted with growing time limits.

    python benchmarks/adapters_one_shot.py --model FOLDER [--limits 10 20 30 60 120] [--threads 2]

$RETINA_FM_TEST_DATA/rite_train is read. Seconds are wall-clock of ``fit`` from a loaded encoder: reading,
encoding, training and the choice of the threshold.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adapters_common import files, grey, segmenter, vessel_figures
from tables import written
from timing import taken

from retina_fm.adapters.extraction import Compute, encoder_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="fundus2video-random")
    parser.add_argument("--limits", nargs="*", type=float, default=[10, 20, 30, 60, 120])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--test", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/results/adapters"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = Path(os.environ["RETINA_FM_TEST_DATA"]) / "rite_train"
    photos, masks, fields = (files(data / part) for part in ("images", "vessels", "masks"))
    encoder_of(arguments.model, Compute())
    rows: list[dict[str, Any]] = []
    for limit in arguments.limits:
        estimator = segmenter(
            arguments.model, shots=1, seed=arguments.seed, steps=4000, max_seconds=limit, progress=False
        )
        with taken() as fitting:
            estimator.fit(photos, masks)
        row: dict[str, Any] = {
            "limit": limit,
            "seconds": round(fitting.seconds, 1),
            "cpu_seconds": round(fitting.processor, 1),
        }
        rest = [i for i in range(len(photos)) if i not in estimator.drawn_][: arguments.test]
        found = [
            vessel_figures(p, grey(masks[i]) > 127, grey(fields[i]) > 127, estimator.threshold_)
            for i, p in zip(rest, estimator.predict_proba([photos[i] for i in rest]), strict=True)
        ]
        row.update({name: float(np.mean([one[name] for one in found])) for name in ("dice", "auroc")})
        rows.append(row)
        print(row, flush=True)
    name = Path(arguments.model).name
    values = {"model": name, "rows": rows, **vars_of(arguments)}
    target = arguments.out / f"one_shot_by_time_{name}.json"
    written(target, values)
    plot(rows, target.with_suffix(".png"))


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Dice by seconds, with the Dice that a fit of a minute should reach."""
    try:
        from matplotlib import pyplot
    except ImportError:
        print("matplotlib is not installed: no plot")
        return
    figure, axis = pyplot.subplots(figsize=(5.5, 3.6), layout="constrained")
    axis.plot([row["seconds"] for row in rows], [row["dice"] for row in rows], marker="o")
    axis.axhline(0.7, color="grey", linestyle=":", label="asked for within a minute")
    axis.set_xlabel("seconds of fit")
    axis.set_ylabel("Dice")
    axis.set_xlim(left=0)
    axis.set_ylim(0.65, 0.8)
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


def vars_of(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"threads": arguments.threads, "tested": arguments.test, "seed": arguments.seed}


if __name__ == "__main__":
    main()
