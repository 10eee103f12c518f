"""Patterns of vessels of whole sets of photographs, kept on disk for fitting and measuring.

``RETINA_FM_TEST_DATA=... python benchmarks/signatures_read.py --work DIR [--minutes 8] [--model WEIGHTS]``

Each part of a hundred pictures becomes one ``.npz``; a stopped run goes on where it was. With ``--model`` the
lines are joined with that model's vessel map. Pictures of ``tvhl_dev`` whose eye was taken twice are read
changed as well: turned by 20 degrees, zoomed, cropped by a third, blurred, recompressed.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from retina_fm.models.signing import vessel_maps_of
from retina_fm.pictures import Transform, read_picture
from retina_fm.signatures import Network, read_patterns

PART = 100
SETS = ("ffa_pairs_dev", "tvhl_dev", "pretrain/grape", "pretrain/hygd", "pretrain/toxo", "odir_dev",
        "rahim_dev", "pretrain/rfmid2", "pretrain/hrf", "idrid_grading")  # fmt: skip
CHANGED = ("tvhl_dev",)
"""Sets that are read changed, too."""

Change = Callable[[Image.Image], Image.Image]


def cropped(picture: Image.Image) -> Image.Image:
    """Without a third of its width: what is left of the field of view reaches the frame's side."""
    width, height = picture.size
    box = picture.convert("L").point(lambda value: 255 * (value > 12)).getbbox() or (0, 0, width, height)
    return picture.crop((box[0] + (box[2] - box[0]) // 3, box[1], box[2], box[3]))


def zoomed(share: float) -> Change:
    """The same retina through a lens of another angle: less of it in the same aperture, or more around it."""

    def change(picture: Image.Image) -> Image.Image:
        view, geometry = Transform(size=768).view(picture)
        inside = geometry.mask_in_view()
        size = round(768 * share)
        large = Image.fromarray(view).resize((size, size), Image.Resampling.LANCZOS)
        left = (size - 768) // 2
        cut = np.array(large.crop((left, left, left + 768, left + 768)))
        if share > 1:
            cut[~inside] = 0
        return Image.fromarray(cut)

    return change


def recompressed(picture: Image.Image) -> Image.Image:
    """As JPEG of quality 20."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=20)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


CHANGES: dict[str, Change] = {
    "turned": lambda picture: picture.rotate(20, Image.Resampling.BICUBIC, expand=True),
    "zoomed-0.75": zoomed(0.75),
    "zoomed-1.25": zoomed(1.25),
    "cropped": cropped,
    "blurred": lambda picture: picture.filter(ImageFilter.GaussianBlur(max(picture.size) / 400)),
    "recompressed": recompressed,
}


def listed(root: Path, name: str) -> list[Path]:
    """Pictures of a set, in the order of its table; ``hrf`` has none."""
    folder = root / name
    if not (folder / "labels.csv").exists():
        return sorted((folder / "images").iterdir())
    with (folder / "labels.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("use", "yes") == "yes"]
    places = [folder / row["path"] for row in rows]
    return [place if place.exists() else folder / "images" / place.name for place in places]


def network_of(model: str | None) -> Network | None:
    """A model's vessel map at the size of signatures, or None."""
    if model is None:
        return None
    from retina_fm.encoding.embedder import load_fast

    encoder, _ = load_fast(model)
    return vessel_maps_of(encoder)


def parts(root: Path, only: tuple[str, ...]) -> Iterator[tuple[str, list[Path], Change | None]]:
    """What is to be read, a hundred pictures at a time."""
    for name in only:
        files = listed(root, name)
        short = name.rpartition("/")[2]
        for start in range(0, len(files), PART):
            yield f"{short}-{start // PART}", files[start : start + PART], None
    for name in CHANGED:
        files = listed(root, name)
        eyes = Counter(eye_of(file) for file in files)
        files = [file for file in files if eyes[eye_of(file)] > 1]
        for change in CHANGES:
            yield f"{name}~{change}-0", files, CHANGES[change]


def eye_of(file: Path) -> str:
    """Patient and side, which names in ``tvhl_dev`` begin with."""
    return "_".join(file.stem.split("_")[:2])


def read_part(files: list[Path], change: Change | None, network: Network | None) -> dict[str, np.ndarray]:
    """Spectra, strengths, polarities and names of some pictures."""
    transform, found = Transform(), []
    for start in range(0, len(files), 4):
        views, fields = [], []
        for file in files[start : start + 4]:
            picture = read_picture(file)
            view, geometry = transform.view(picture if change is None else change(Image.fromarray(picture)))
            views.append(view)
            fields.append(geometry.mask_in_view())
        found.append(read_patterns(np.stack(views), fields, network))
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    names = np.array([file.name for file in files])
    return {"spectra": columns[0], "strength": columns[1], "bright": columns[2], "names": names}


def main() -> None:
    """Read what is missing, until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model")
    parser.add_argument("--minutes", type=float, default=1e6)
    parser.add_argument("--sets", nargs="+", default=SETS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    end = time.monotonic() + 60 * arguments.minutes
    arguments.work.mkdir(parents=True, exist_ok=True)
    network = network_of(arguments.model)
    for key, files, change in parts(Path(os.environ["RETINA_FM_TEST_DATA"]), tuple(arguments.sets)):
        place = arguments.work / f"{key}.npz"
        if place.exists():
            continue
        if time.monotonic() > end:
            print("not finished: run it again")
            return
        started = time.monotonic()
        scratch = place.with_suffix(".part.npz")
        np.savez(scratch, **read_part(files, change, network))
        scratch.replace(place)
        print(f"{key}: {len(files)} pictures, {time.monotonic() - started:.0f} s", flush=True)
    print("all is read")


if __name__ == "__main__":
    main()
