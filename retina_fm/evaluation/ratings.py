"""Human assessment: a blinded page to rate videos on, and what the raters' files say."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retina_fm._io.files import write_bytes
from retina_fm._io.folders import own_folder
from retina_fm._io.pages import data_url, picture_url, render
from retina_fm._io.strict_json import read_json, write_sealed_json
from retina_fm._io.tables import read_csv
from retina_fm.errors import ManifestError
from retina_fm.metrics.agreement import SCALE, weighted_kappa

CRITERIA = {
    1: ("Excellent", "Similar morphology and fluorescent changes of retinal vessels and lesions"),
    2: ("Good", "Slight variation in morphology and fluorescent changes of retinal vessels and lesions"),
    3: (
        "Normal",
        "Moderate variation in morphology and fluorescent changes; lesions of diagnostic significance",
    ),
    4: ("Poor", "Large variation in morphology and intensity; without lesions of diagnostic significance"),
    5: ("Very poor", "Large variation in morphology and intensity of choroidal and retinal vessels"),
}
"""The paper's Table 2: a score, its name, what it means."""
_SIDE = 200


def write_sheet(
    items: Mapping[tuple[str, str], tuple[Any, Any, Any]], out: str | Path, *, seed: int = 0
) -> tuple[Path, Path]:
    """A self-contained page that shows each photo with real and generated frames, and asks for a score.

    Methods are hidden behind codes and items are shuffled. The page keeps what was entered in the browser and
    saves ``ratings-NAME.csv``; the key that tells what a code is goes into another file, not to the raters.

    Args:
        items: by method and sequence: photo ``uint8 (H, W, 3)``, real and generated frames ``(12, H, W)``.
        out: folder for ``rate.html`` and ``key.json``.
        seed: of the order and the codes.

    Returns:
        The page and the key.

    Raises:
        ManifestError: there are no items.
    """
    if not items:
        raise ManifestError("There is nothing to rate. Give generated videos.")
    random = np.random.Generator(np.random.PCG64(seed))
    names = sorted(items)
    codes = [f"{number:04d}" for number in random.permutation(9000)[: len(names)] + 1000]
    key, blocks = {}, []
    for code, place in zip(codes, random.permutation(len(names)).tolist(), strict=True):
        method, sequence = names[place]
        photo, real, made = items[names[place]]
        key[code] = {"method": method, "sequence": sequence}
        blocks.append(
            {
                "code": code,
                "photo": _picture(np.asarray(photo)),
                "videos": [(word, _strip(frames)) for word, frames in (("real", real), ("generated", made))],
            }
        )
    page = render(
        "ratings.html",
        title="Rating of generated angiograms",
        criteria=CRITERIA,
        scale=SCALE,
        items=blocks,
        sheet=f"{seed}-{len(items)}-{codes[0]}",
    )
    folder = own_folder(out, "a rating sheet", "rate.html")
    write_bytes(folder / "rate.html", page.encode())
    write_sealed_json(folder / "key.json", key)
    return folder / "rate.html", folder / "key.json"


def read_ratings(path: str | Path) -> dict[str, int]:
    """A rater's scores by code.

    Raises:
        ManifestError: no such columns, a code twice, or a score that is not on the scale.
    """
    source = Path(path)
    try:
        rows = read_csv(source).rows
    except (OSError, ValueError) as error:
        raise ManifestError(f"{source} cannot be read ({error}).") from None
    if not rows or not {"item", "score"} <= set(rows[0]):
        raise ManifestError(f"{source} needs the columns item and score, as the page saves them.")
    found: dict[str, int] = {}
    for row in rows:
        if row["item"] in found:
            raise ManifestError(f"{source} rates item {row['item']} twice.")
        if row["score"] not in {str(s) for s in SCALE}:
            raise ManifestError(f"{source}: item {row['item']} has score {row['score']!r}; use 1 to 5.")
        found[row["item"]] = int(row["score"])
    return found


def assess(files: Sequence[str | Path], key: str | Path) -> dict[str, Any]:
    """What the raters' files say: means a method and rater, weighted kappa a pair of raters.

    Kappa is taken over the items that both rated, with quadratic weights; its interval and test are those of
    :func:`retina_fm.metrics.agreement.weighted_kappa`. The paper does not say which weights it used.

    Raises:
        ManifestError: an item that the key does not know, or two raters with no item in common.
    """
    try:
        known = read_json(Path(key))
    except (OSError, ValueError) as error:
        raise ManifestError(
            f"{key} cannot be read as the key of a sheet ({error}). Write the sheet again."
        ) from None
    raters = {Path(file).stem.removeprefix("ratings-"): read_ratings(file) for file in files}
    for rater, scores in raters.items():
        strange = sorted(set(scores) - set(known))
        if strange:
            raise ManifestError(f"{rater} rated item {strange[0]}, which is not in {key}: another sheet?")
    methods: dict[str, dict[str, Any]] = {}
    for rater, scores in raters.items():
        for method in sorted({said["method"] for said in known.values()}):
            values = [s for code, s in scores.items() if known[code]["method"] == method]
            if values:
                methods.setdefault(method, {})[rater] = {"mean": float(np.mean(values)), "items": len(values)}
    pairs = {}
    for one, two in combinations(sorted(raters), 2):
        both = sorted(set(raters[one]) & set(raters[two]))
        if not both:
            raise ManifestError(f"{one} and {two} have no item in common.")
        paired = [[raters[rater][code] for code in both] for rater in (one, two)]
        pairs[f"{one}, {two}"] = {
            weights: weighted_kappa(*paired, weights=weights).as_dict()
            for weights in ("quadratic", "linear", "none")
        }
    return {"means": methods, "kappa": pairs, "published": {"means": [1.28, 1.34], "kappa": 0.90}}


def _picture(picture: Any) -> str:
    return picture_url(Image.fromarray(np.asarray(picture, np.uint8)), _SIDE, quality=85)


def _strip(frames: Any) -> list[str]:
    """A video as an animation and as six still frames."""
    images = [Image.fromarray(np.asarray(frame, np.uint8)) for frame in frames]
    for image in images:
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=400, loop=0)
    return [data_url(buffer.getvalue(), "gif"), *(_picture(frames[t]) for t in (0, 3, 5, 7, 9, 11))]
