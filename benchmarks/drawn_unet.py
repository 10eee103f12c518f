"""How real drawn retinas are: a U-Net that saw nothing else, asked for the vessels of real photographs.

    python benchmarks/drawn_unet.py --test $RETINA_FM_TEST_DATA/rite_train --drawn 96
        [--labelled $RETINA_FM_TEST_DATA/pretrain/hrf] [--steps 600] [--out FILE.json]

Trains the evaluation's U-Net from scratch on drawn retinas and, with ``--labelled``, another one on real
labelled photographs for as many steps; both read every photograph of ``--test`` (folders ``images`` and
``vessels``). Prints AUROC and Dice with 95 % intervals over photographs. The threshold of Dice is chosen on
each network's own training pictures.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from adapters_common import files, grey, vessel_figures
from numpy.typing import NDArray
from PIL import Image
from tables import interval, written

from retina_fm.evaluation.baselines.unet import ScratchUNet
from retina_fm.pictures import Transform, read_picture
from retina_fm.training.simulator.anatomy.drawn import draw_patient

LESIONS = {"haemorrhage": 6, "hard_exudate": 8, "microaneurysm": 12, "drusen": 4}


def drawn(count: int, folder: Path, seed: int) -> tuple[list[Path], list[NDArray[np.bool_]]]:
    """Photos on disk and masks of both eyes of drawn patients, every other patient with lesions."""
    photos, masks = [], []
    for number in range((count + 1) // 2):
        for eye in draw_patient(seed + number, 512, lesions=LESIONS if number % 2 else {}):
            path = folder / f"{len(photos):04d}.png"
            Image.fromarray(eye.photo).save(path)
            photos.append(path)
            masks.append(eye.vessels > 0.5)
    return photos[:count], masks[:count]


def labelled(folder: Path) -> tuple[list[Path], list[NDArray[np.bool_]]]:
    """Photographs and masks of the same stem."""
    masks = {path.stem: path for path in files(folder / "vessels")}
    photos = [path for path in files(folder / "images") if path.stem in masks]
    return photos, [grey(masks[path.stem]) > 127 for path in photos]


def judged(
    network: ScratchUNet, photos: Sequence[Path], masks: Sequence[NDArray[np.bool_]]
) -> dict[str, dict[str, float]]:
    """AUROC and Dice of every photograph, as means with intervals."""
    rows = []
    for photo, mask in zip(photos, masks, strict=True):
        inside = Transform().locate(read_picture(photo)).mask_in_picture()
        rows.append(vessel_figures(network.predict_proba(photo), mask, inside, network.threshold_))
    return {name: interval([row[name] for row in rows]) for name in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--drawn", type=int, default=96)
    parser.add_argument("--labelled", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=40_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    test = labelled(arguments.test)
    results: dict[str, object] = {"test_photographs": len(test[0]), "steps": arguments.steps}
    with tempfile.TemporaryDirectory() as folder:
        sources = {f"{arguments.drawn} drawn": drawn(arguments.drawn, Path(folder), arguments.seed)}
        if arguments.labelled is not None:
            real = labelled(arguments.labelled)
            sources[f"{len(real[0])} of {arguments.labelled.name}, labelled"] = real
        for name, (photos, masks) in sources.items():
            network = ScratchUNet(steps=arguments.steps).fit(photos, masks)
            results[name] = judged(network, *test)
            print(name, results[name], flush=True)
    if arguments.out:
        written(arguments.out, results)


if __name__ == "__main__":
    main()
