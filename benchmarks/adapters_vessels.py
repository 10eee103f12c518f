"""Vessels from few examples on RITE: AUROC and Dice by shots, models side by side.

    python benchmarks/adapters_vessels.py --model FOLDER [--also fundus2video-random unet-resnet34-scratch]
        [--shots 0 1 2 4 8 16] [--draws 5] [--steps N] [--out docs/results/adapters]

$RETINA_FM_TEST_DATA/rite_train is read. Each draw trains on its pictures and tests on all others, in the
pictures' own pixels inside the field of view. An interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from adapters_common import SCRATCH_UNET, files, grey, segmenter, sheet, vessel_figures
from tables import interval, written
from timing import taken

from retina_fm.adapters import draw_pictures
from retina_fm.adapters.zero_shot import threshold_of
from retina_fm.errors import ConfigError
from retina_fm.pictures.sheets import comparison


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="fundus2video-random")
    parser.add_argument("--also", nargs="*", default=[])
    parser.add_argument("--shots", nargs="*", type=int, default=[0, 1, 2, 4, 8, 16])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--steps", type=int, help="the segmenter's own choice without it")
    parser.add_argument("--test", type=int, help="pictures tested a draw (all of the rest without it)")
    parser.add_argument("--out", type=Path, default=Path("docs/results/adapters"))
    parser.add_argument("--name", default="vessels")
    arguments = parser.parse_args()
    data = Path(os.environ["RETINA_FM_TEST_DATA"]) / "rite_train"
    photos, masks, fields = (files(data / part) for part in ("images", "vessels", "masks"))
    target = arguments.out / f"{arguments.name}.json"
    results: dict[str, Any] = json.loads(target.read_text()) if target.is_file() else {"runs": []}
    for model in [arguments.model, *arguments.also]:
        for shots in arguments.shots:
            for seed in range(arguments.draws if shots else 1):
                key = {"model": Path(model).name, "shots": shots, "seed": seed, "steps": arguments.steps}
                if any(all(run[k] == v for k, v in key.items()) for run in results["runs"]):
                    continue
                if shots == 0 and model == SCRATCH_UNET:
                    continue
                try:
                    run = one_run(model, shots, seed, arguments, photos, masks, fields)
                except ConfigError as error:
                    print(f"{model}, {shots} shots: {error}")
                    continue
                results["runs"].append({**key, **run})
                print(key, {k: run[k] for k in ("dice", "auroc", "seconds")}, flush=True)
                written(target, results)
    results["table"] = table(results["runs"])
    written(target, results)
    plot(results["table"], arguments.out / f"{arguments.name}.png")


def one_run(
    model: str,
    shots: int,
    seed: int,
    arguments: Any,
    photos: list[Path],
    masks: list[Path],
    fields: list[Path],
) -> dict[str, Any]:
    estimator = segmenter(model, shots=shots, seed=seed, steps=arguments.steps)
    with taken() as fitting:
        estimator.fit(photos, masks)
    rest = np.arange(len(photos)) if shots == 0 else draw_pictures(len(photos), shots, seed=seed).rest
    found = []
    for index in rest[: arguments.test].tolist():
        probability = estimator.predict_proba([photos[index]])[0]
        wanted, inside = grey(masks[index]) > 127, grey(fields[index]) > 127
        threshold = threshold_of("vessels", probability, {}) if shots == 0 else estimator.threshold_
        figures = vessel_figures(probability, wanted, inside, threshold)
        found.append((figures, index, probability >= threshold, wanted))
    if seed == 0:
        worst = sorted(found, key=lambda one: one[0]["dice"])[:3]
        pictures = [comparison(photos[i], label, wanted) for _, i, label, wanted in worst]
        sheet(pictures, arguments.out / f"{arguments.name}_{Path(model).name}_{shots}_worst.jpg")
    return {
        "dice": float(np.mean([f["dice"] for f, *_ in found])),
        "auroc": float(np.mean([f["auroc"] for f, *_ in found])),
        "pictures": {photos[i].name: f for f, i, *_ in found},
        "drawn": [] if shots == 0 else [Path(name).name for name in estimator.drawn_names_],
        "threshold": None if shots == 0 else estimator.threshold_,
        "steps_done": 0 if shots == 0 else estimator.history_[-1]["step"],
        "seconds": round(fitting.seconds, 1),
    }


def table(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a model, number of shots and steps; intervals over draws (over pictures for one run alone)."""
    rows = []
    kinds = dict.fromkeys((run["model"], run["shots"], run["steps"]) for run in runs)
    for model, shots, steps in kinds:
        group = [run for run in runs if (run["model"], run["shots"], run["steps"]) == (model, shots, steps)]
        each = group if len(group) > 1 else list(group[0]["pictures"].values())
        rows.append({"model": model, "shots": shots, "steps": steps, "draws": len(group)})
        rows[-1].update({name: interval([one[name] for one in each]) for name in ("dice", "auroc")})
    return rows


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Dice and AUROC by shots, a line a model."""
    try:
        from matplotlib import pyplot
    except ImportError:
        print("matplotlib is not installed: no plot")
        return
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 4.4), layout="constrained")
    for axis, name in zip(axes, ("dice", "auroc"), strict=True):
        for model, steps in dict.fromkeys((row["model"], row["steps"]) for row in rows):
            own = sorted(
                (row for row in rows if (row["model"], row["steps"]) == (model, steps)),
                key=lambda row: row["shots"],
            )
            middle = [row[name]["mean"] for row in own]
            error = [row[name]["mean"] - row[name]["low"] for row in own]
            shots = [row["shots"] for row in own]
            told = "nothing learnt" if shots == [0] else f"{steps or 'its own number of'} steps"
            label = f"{model}, {told}"
            axis.errorbar(shots, middle, yerr=error, marker="o", capsize=3, label=label)
        axis.set_xscale("symlog", base=2, linthresh=1)
        axis.set_xlabel("shots")
        axis.set_ylabel({"dice": "Dice", "auroc": "AUROC"}[name])
        axis.grid(alpha=0.3)
    axes[0].axhline(0.788, color="grey", linestyle=":", label="second observer (DRIVE)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
