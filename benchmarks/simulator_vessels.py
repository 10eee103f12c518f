"""What is read off a photograph without labels before anything is simulated: vessels, arteries and veins.

    python benchmarks/simulator_vessels.py --root "$RETINA_FM_TEST_DATA" [--out docs/results/simulator]

Photographs are reduced to 600 pixels a side, about as large as a view. Vessels: AUROC inside the field of
view, and Dice of coverage above one half. Arteries against veins, over pixels labelled as one of them: AUROC
and accuracy of the probability of an artery, the mean accuracy over arteries and veins (balanced), accuracy
where it is sure (below 0.25 or above 0.75) and how often it is; once from labelled vessels, once over what
the estimate finds of them. Intervals are 95 %, by bootstrap over pictures. Labels only measure.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score
from tables import bootstrapped, cell, written

from retina_fm.pictures.masks import dice, listed_masks, masks_of
from retina_fm.training.simulator.eyes.arteries_veins import artery_probability
from retina_fm.vessels.line_maps import vessel_coverage

SIDE = 600
VESSEL_SETS = ("rite_train", "les_av", "pretrain/chase_db1", "pretrain/hrf")
ARTERY_SETS = ("rite_train", "les_av")
Mask = NDArray[np.bool_]


def photographs(folder: Path) -> Iterator[tuple[NDArray[np.uint8], Callable[[str], Mask]]]:
    """Photos of a set, reduced, with a function that reads their masks of a kind."""
    photos = sorted((folder / "images").iterdir())
    for path in photos:
        picture = Image.open(path).convert("RGB")
        scale = min(1.0, SIDE / max(picture.size))
        size = (round(picture.width * scale), round(picture.height * scale))

        def mask(kind: str, path: Path = path, size: tuple[int, int] = size) -> Mask:
            file = masks_of(photos, listed_masks(folder / kind))[path.stem]
            return np.asarray(Image.open(file).convert("L").resize(size, Image.Resampling.BILINEAR)) > 127

        yield np.asarray(picture.resize(size, Image.Resampling.BICUBIC)), mask


def artery_figures(probability: NDArray[np.float32], artery: Mask, where: Mask) -> dict[str, float]:
    """Figures of one picture over pixels ``where`` that are arterial or venous, not both."""
    truth, found = artery[where], probability[where]
    right = (found > 0.5) == truth
    sure = np.abs(found - 0.5) > 0.25
    return {
        "auroc": float(roc_auc_score(truth, found)),
        "accuracy": float(right.mean()),
        "balanced": float((right[truth].mean() + right[~truth].mean()) / 2),
        "accuracy where sure": float(right[sure].mean()) if sure.any() else float("nan"),
        "share that is sure": float(sure.mean()),
    }


def summary(rows: list[dict[str, float]], random: np.random.Generator) -> dict[str, dict[str, float]]:
    """Mean over pictures with its 95 % interval."""
    return {name: bootstrapped([row[name] for row in rows], random) for name in rows[0]}


def main() -> None:
    """Measure, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name in VESSEL_SETS:
        rows: dict[str, list[dict[str, float]]] = {}
        for photo, mask in photographs(arguments.root / name):
            field, vessels = mask("masks"), mask("vessels")
            radius = field.any(0).sum() / 2
            estimate = vessel_coverage(photo, field, radius)
            area = float(roc_auc_score(vessels[field], estimate[field]))
            overlap = dice((estimate > 0.5) & field, vessels & field)
            rows.setdefault("vessels", []).append({"auroc": area, "dice": overlap})
            if name not in ARTERY_SETS:
                continue
            artery, vein = mask("arteries"), mask("veins")
            one = (artery ^ vein) & field
            given = artery_probability(photo, field, (artery | vein).astype(np.float32), radius)
            guessed = artery_probability(photo, field, estimate, radius)
            rows.setdefault("labelled vessels", []).append(artery_figures(given, artery, one))
            rows.setdefault("estimated vessels", []).append(
                artery_figures(guessed, artery, one & (estimate > 0.5))
            )
        for kind, of_it in rows.items():
            found = summary(of_it, random)
            results[f"{name}, {kind}"] = found
            print(f"| {name}, {kind} ({len(of_it)}) | {' | '.join(map(cell, found.values()))} |", flush=True)
    if arguments.out:
        written(arguments.out / "vessels.json", results)


if __name__ == "__main__":
    main()
