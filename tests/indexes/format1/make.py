"""How the index in this folder was made, with the release that wrote format 1 (``manifest.json``).

``python make.py FOLDER``: four photos in two parts, one removed, metadata, and whitening of made numbers.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

import retina_fm
from retina_fm.models import fit_whitening, resolve, save_whitening

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
from index_helpers import TINY, draw, made


def main(folder: Path) -> None:
    model = folder / "model"
    shutil.copytree(resolve(TINY), model)
    save_whitening(model, fit_whitening(made(100, 64) * np.linspace(1, 9, 64, dtype=np.float32)))
    photos = draw(folder / "eyes", ["a.png", "b.png", "c.png"])
    store = folder / "store"
    table = {"path": [str(path) for path in photos], "eye": ["left", "right", None], "age": [61, 7, 33]}
    retina_fm.index(folder / "eyes", str(model), store=store, metadata=table, dtype="float32")
    draw(folder / "eyes", ["d.png"], seed=9)
    index = retina_fm.index(folder / "eyes", str(model), store=store, dtype="float32")
    index.remove(photos[1])
    np.save(folder / "expected.npy", index.embeddings)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
