"""Lesion maps without training, beside spot filters, and few-shot adapters on the same photographs.

    python benchmarks/adapters_lesions.py --model FOLDER [--shots 1 2 4] [--draws 1]

$RETINA_FM_TEST_DATA/pretrain/idrid_seg is read (haemorrhages and hard exudates; coverage masks, half and more
counts). Its photographs must not have been in the model's pretraining. Figures are means over photographs;
those over all photographs' pixels together are beside them, and lower: a map may mark one photograph more
readily than the next.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
from adapters_common import files, grey, lesion_figures, segmenter, sheet
from scipy import ndimage
from tables import interval, written

from retina_fm.adapters import draw_pictures, lesion_maps
from retina_fm.errors import ConfigError
from retina_fm.pictures import Transform, read_picture
from retina_fm.pictures.sheets import comparison

KINDS = {"haemorrhages": ("haemorrhage", -1.0), "hard_exudates": ("hard_exudate", 1.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="fundus2video-random")
    parser.add_argument("--shots", nargs="*", type=int, default=[1, 2, 4])
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--test", type=int)
    parser.add_argument("--out", type=Path, default=Path("docs/results/adapters"))
    arguments = parser.parse_args()
    data = Path(os.environ["RETINA_FM_TEST_DATA"]) / "pretrain" / "idrid_seg"
    photos = files(data / "images")
    name = Path(arguments.model).name
    results: dict[str, Any] = {"model": name}
    try:
        maps = lesion_maps(photos, arguments.model)
    except ConfigError as error:
        print(error)
        maps = []
    for kind, (lesion, sign) in KINDS.items():
        masks = files(data / kind)
        wanted = {path.stem: grey(path) > 127 for path in masks}
        rows: dict[str, list[dict[str, float]]] = {"model": [], "filter": []}
        pixels: list[tuple[np.ndarray, np.ndarray]] = []
        for index, photo in enumerate(photos):
            if not wanted.get(photo.stem, np.zeros(1)).any():
                continue
            picture = read_picture(photo)
            inside = Transform().locate(picture).mask_in_picture()
            spots = spot_filter(picture, sign)
            rows["filter"].append(lesion_figures(spots, wanted[photo.stem], inside))
            if maps:
                rows["model"].append(lesion_figures(maps[index][lesion], wanted[photo.stem], inside))
                pixels.append((maps[index][lesion][inside], wanted[photo.stem][inside]))
        results[kind] = {who: summary(found) for who, found in rows.items() if found}
        if maps:
            results[kind]["model, all pixels together"] = summary([pooled(pixels)])
            ranked = sorted(range(len(rows["model"])), key=lambda i: rows["model"][i]["average_precision"])
            shown = [photo for photo in photos if wanted.get(photo.stem, np.zeros(1)).any()]
            chosen = [shown[i] for i in (ranked[0], ranked[len(ranked) // 2], ranked[-1])]
            shown_maps = [maps[photos.index(photo)][lesion] for photo in chosen]
            cuts = [
                np.quantile(m, 1 - wanted[p.stem].mean()) for m, p in zip(shown_maps, chosen, strict=True)
            ]
            overlays = [
                comparison(photo, found > cut, wanted[photo.stem])
                for photo, found, cut in zip(chosen, shown_maps, cuts, strict=True)
            ]
            sheet(overlays, arguments.out / f"lesions_{name}_{lesion}.jpg")
        for shots in arguments.shots:
            found = [
                figures
                for seed in range(arguments.draws)
                for figures in adapter_figures(arguments, photos, wanted, shots, seed)
            ]
            results[kind][f"{shots} shots"] = summary(found)
        for who, figures in results[kind].items():
            print(kind, who, {key: round(value["mean"], 3) for key, value in figures.items()}, flush=True)
        written(arguments.out / f"lesions_{name}.json", results)


def adapter_figures(
    arguments: Any, photos: list[Path], wanted: dict[str, np.ndarray], shots: int, seed: int
) -> list[dict[str, float]]:
    usable = [photo for photo in photos if wanted.get(photo.stem, np.zeros(1)).any()]
    masks = [wanted[photo.stem].astype(np.uint8) for photo in usable]
    estimator = segmenter(arguments.model, shots=shots, seed=seed, steps=arguments.steps).fit(usable, masks)
    found = []
    for index in draw_pictures(len(usable), shots, seed=seed).rest[: arguments.test].tolist():
        inside = Transform().locate(read_picture(usable[index])).mask_in_picture()
        probability = estimator.predict_proba([usable[index]])[0]
        found.append(lesion_figures(probability, wanted[usable[index].stem], inside))
    return found


def spot_filter(picture: np.ndarray, sign: float) -> np.ndarray:
    """Bright (1) or dark (-1) spots: the green channel's difference of Gaussians, over several sizes."""
    green = sign * picture[..., 1].astype(np.float32)
    scales = [(2.0, 8.0), (4.0, 16.0), (8.0, 32.0)]
    blurred = {sigma: ndimage.gaussian_filter(green, sigma) for pair in scales for sigma in pair}
    return np.asarray(np.max([blurred[small] - blurred[large] for small, large in scales], axis=0))


def pooled(pixels: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Figures over the pixels of all photographs at once: one threshold for all has to hold."""
    score, wanted = (np.concatenate(part) for part in zip(*pixels, strict=True))
    return lesion_figures(score, wanted, np.ones(len(score), bool))


def summary(found: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {name: interval([one[name] for one in found]) for name in found[0]}


if __name__ == "__main__":
    main()
