"""Vessels from one photograph with a mask.

python examples/vessels_from_one_example.py photo.png mask.png others/ masks-out/ [MODEL] [STEPS]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import retina_fm
from retina_fm.adapters import overlay
from retina_fm.pictures import describe, expand


def main(photo: str, mask: str, others: str, out: str, model: str = "fundus2video", steps: str = "") -> None:
    segmenter = retina_fm.adapt(
        "segmentation", shots=1, model=model, mask_threshold=0, steps=int(steps) if steps else None
    )
    segmenter.fit([photo], [mask])
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for other in expand(others):
        found = segmenter.predict([other])[0]
        name = Path(describe(other)).stem
        Image.fromarray(found * np.uint8(255)).save(folder / f"{name}.png")
        Image.fromarray(overlay(other, found)).save(folder / f"{name}-overlay.png")
        print(f"{name}: vessels cover {found.mean():.1%} of the picture")


if __name__ == "__main__":
    main(*sys.argv[1:])
