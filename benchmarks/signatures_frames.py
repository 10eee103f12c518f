"""A photo finds the frames of its own simulated angiogram among many eyes, and back.

``python benchmarks/signatures_frames.py EYES --work DIR [--eyes 200] [--model WEIGHTS] [--basis FILE]``

EYES is a folder of prepared eyes (``retina-fm prepare``). Each eye's photograph and its frames 1 and 3 (early
and late arterial), 6 (venous) and 11 (late) are read; noise, exposure and dye are drawn by the simulator. The
frames lie on their photo pixel by pixel, which signatures do not use. A stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from signatures import in_blocks
from signatures_read import network_of

from retina_fm.indexes.recall import patient_bootstrap
from retina_fm.signatures import Readings, SignatureBasis, default_basis, read_patterns
from retina_fm.training.simulator.eyes.prepared import load_eye
from retina_fm.training.simulator.rendering.render import render_batch

FRAMES = {"early arterial": 1, "arterial": 3, "venous": 6, "late": 11}


def views_of(path: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Photo and frames ``uint8 (5, S, S, 3)`` of one eye, and their field of view."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.tensor([list(FRAMES.values())])
    done = render_batch([load_eye(path)], generator, frames=index, lesions=False, augment=False)
    inside = done.field_of_view[0, 0].numpy() > 0
    photo = ((done.photo[0].permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(np.uint8)
    frames = (done.frames[0].numpy() * 255).round().astype(np.uint8)
    return np.concatenate([photo[None], np.repeat(frames[..., None], 3, axis=3)]), inside


def main() -> None:
    """Read what is missing, then rank."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("eyes_folder", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--eyes", type=int, default=200)
    parser.add_argument("--model")
    parser.add_argument("--basis", type=Path)
    parser.add_argument("--minutes", type=float, default=1e6)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    end = time.monotonic() + 60 * arguments.minutes
    network = network_of(arguments.model)
    arguments.work.mkdir(parents=True, exist_ok=True)
    found: list[Readings] = []
    for number, path in enumerate(sorted(arguments.eyes_folder.glob("*.eye.safetensors"))[: arguments.eyes]):
        place = arguments.work / f"{path.name.partition('.')[0]}.npz"
        if not place.exists():
            if time.monotonic() > end:
                print(f"{number} eyes are read; run it again for the others")
                break
            views, inside = views_of(path, number)
            reading = read_patterns(views, [inside] * len(views), network)
            scratch = place.with_suffix(".part.npz")
            np.savez(scratch, **reading._asdict())
            scratch.replace(place)
        kept = np.load(place)
        found.append(Readings(kept["spectra"], kept["strength"], kept["bright"]))
    basis = default_basis()
    if arguments.basis is not None:
        basis = SignatureBasis.from_bytes(arguments.basis.read_bytes(), str(arguments.basis))
    figures = ranks(found, basis)
    print(json.dumps(figures, indent=1))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")


def ranks(found: list[Readings], basis: SignatureBasis) -> dict[str, object]:
    """Recall@1 of photo to each frame and back, as things are and turned."""
    rows = np.stack([basis.project(reading.spectra) for reading in found])
    rows[np.stack([reading.strength for reading in found]) < basis.gate[0]] = 0
    photos, own = rows[:, 0], np.arange(len(rows))
    figures: dict[str, object] = {"eyes": len(rows), "chance": 1 / len(rows)}
    for column, name in enumerate(FRAMES, start=1):
        frames = rows[:, column]
        bright = float(np.mean([reading.bright[column] for reading in found]))
        note: dict[str, object] = {"bright": bright, "without_signature": int((~frames.any(axis=1)).sum())}
        for label, asked, others in (("photo to frame", photos, frames), ("frame to photo", frames, photos)):
            for way, cosines in (("upright", asked @ others.T), ("turned", in_blocks(basis, asked, others))):
                hit = (cosines.argmax(axis=1) == own) & (cosines.max(axis=1) > 0)
                interval = patient_bootstrap(hit[:, None].astype(float), own)[0]
                note[f"{label}, {way}"] = {
                    "recall@1": interval.as_dict(),
                    "cosine": float(np.median(cosines[own, own])),
                }
        figures[name] = note
    return figures


if __name__ == "__main__":
    main()
