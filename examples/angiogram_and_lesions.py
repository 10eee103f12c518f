"""A photograph's synthetic angiogram and lesion maps, as pictures.

python examples/angiogram_and_lesions.py photo.png out/ [MODEL]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import retina_fm
from retina_fm.adapters import lesion_maps


def main(photo: str, out: str, model: str = "fundus2video") -> None:
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    video = retina_fm.generate(photo, model)
    print(video, "->", video.save(folder / "angiogram.gif"))
    for lesion, probability in lesion_maps([photo], model)[0].items():
        Image.fromarray(np.rint(probability * 255).astype(np.uint8)).save(folder / f"{lesion}.png")
        print(f"{lesion}: {(probability > 0.5).mean():.2%} of the picture")


if __name__ == "__main__":
    main(*sys.argv[1:])
