"""What it costs to simulate from estimated instead of labelled vessels.

python benchmarks/simulator_vessel_error.py --eyes EYES [EYES ...] [--limit 8] [--out DIR]

Each eye that was prepared with given vessels is prepared again without them, and both are rendered with the
same parameters. Prints by phase: mean absolute difference of the frames, correlation of their vessel contrast
(frame less its local mean), and AUROC of the labelled vessels read from each. Writes ``vessel_error.json``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import roc_auc_score
from tables import table, written

from retina_fm.training import draw_parameters, load_eye, render_parameters, stack_eyes
from retina_fm.training.simulator.eyes.prepare import prepare_view
from retina_fm.training.simulator.eyes.prepared import PreparedEye
from retina_fm.vocabulary import FRAMES_OF, PHASES


def estimated(eye: PreparedEye) -> PreparedEye:
    """The same eye with vessels from the photo alone; disc and fovea stay, so that only vessels differ."""
    places = (eye.disc_centre, eye.disc_radius, eye.fovea_centre)
    return prepare_view(eye.photo, eye.field_of_view, disc=eye.map("disc"), landmarks=places)


def contrast(frame: NDArray[np.float32], inside: NDArray[np.float32], reach: float) -> NDArray[np.float32]:
    """Frame less its mean nearby, inside the field of view."""
    weight = ndimage.gaussian_filter(inside, reach) + 1e-6
    return np.asarray((frame - ndimage.gaussian_filter(frame * inside, reach) / weight) * inside, np.float32)


def compare(eye: PreparedEye, seed: int) -> dict[str, dict[str, float]]:
    """Figures of one eye by phase."""
    parameters = draw_parameters(
        torch.Generator().manual_seed(seed), 1, size=eye.size, painting=0.0, augment=False
    )
    given, guessed = (
        render_parameters(stack_eyes([e]), parameters, lesions=False).frames[0].numpy()
        for e in (eye, estimated(eye))
    )
    inside = ndimage.binary_erosion(eye.field_of_view, iterations=6)
    label = np.maximum(eye.map("artery"), eye.map("vein"))[inside] > 0.5
    reach = 0.05 * eye.radius
    result = {}
    for phase, part in FRAMES_OF.items():
        pairs = [
            [contrast(f, eye.field_of_view.astype(np.float32), reach)[inside] for f in frames]
            for frames in zip(given[part], guessed[part], strict=True)
        ]
        difference = float(np.abs(given[part] - guessed[part])[:, inside].mean())
        result[phase] = {
            "L1": difference,
            "contrast correlation": float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])),
            "AUROC, given": float(roc_auc_score(label, np.mean([a for a, _ in pairs], 0))),
            "AUROC, estimated": float(roc_auc_score(label, np.mean([b for _, b in pairs], 0))),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--eyes", type=Path, nargs="+", required=True)
    parser.add_argument("--limit", type=int, default=8, help="eyes a folder (8)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, object] = {}
    for folder in options.eyes:
        files = sorted(folder.glob("*.eye.safetensors"))
        eyes = [load_eye(f) for f in files[:: max(1, len(files) // options.limit)][: options.limit]]
        eyes = [eye for eye in eyes if eye.metadata.get("vessels") == "given"]
        rows = [compare(eye, options.seed + i) for i, eye in enumerate(eyes)]
        cells = {}
        for phase in PHASES:
            for name in rows[0][phase]:
                values = [row[phase][name] for row in rows]
                cell = {"mean": float(np.mean(values)), "low": min(values), "high": max(values)}
                cells[f"{phase}: {name}"] = cell
        print(f"\n{folder.name}: {len(rows)} eyes, mean (lowest to highest)\n")
        print(table(["", "figure"], cells.items()))
        result[folder.name] = {"eyes": len(rows), **cells}
    if options.out:
        written(options.out / "vessel_error.json", result)


if __name__ == "__main__":
    main()
