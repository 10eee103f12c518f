"""What each objective teaches at equal processor time, and what lesion maps add to the embedding.

    python benchmarks/pretraining_objectives.py --data EYES [--data MORE] --vessels PHOTOS MASKS --root DATA
        [--minutes 15] [--only ...] [--seed 0 1] [--width 32] [--crop 160] [--runs FOLDER]
        [--out docs/results/pretraining/objectives.json]

Every variant has the same width, the same photographs, half of them painted with lesions, the same windows
and as many minutes of one core; then its encoder is exported and judged by linear probes and by retrieval
of the fellow eye on the development sets, once with its own statistics alone, once with those of the lesion
maps beside them, and once with those of vessels and anatomy too, where it has any. What statistics are
scaled on is the training part of IDRiD. A killed script goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pooling
from pretraining_common import PROGRAM, call, curve, each_on_a_core, pretrain_command, run_name
from tables import written

from retina_fm.encoding.embedder import load_fast
from retina_fm.evaluation.suite import read_suite
from retina_fm.network.pooling import DECODED

PRESET = "fundus2video-half"
_SWITCHED = ("reconstruction", "correlation", "lesions", "adversarial", "feature_matching", "patch_nce")


def _objective(**weights: float) -> dict[str, Any]:
    """Settings of a preset whose loss has these terms alone, with an adversary's rates where it has one."""
    found: dict[str, Any] = {f"weights.{name}": weights.pop(name, 0.0) for name in _SWITCHED}
    found |= {f"weights.{name}": value for name, value in weights.items()}
    if found["weights.adversarial"]:
        found |= {
            "optimiser.kind": "adam",
            "optimiser.rate": 2e-4,
            "optimiser.betas": (0.5, 0.999),
            "optimiser.weight_decay": 0.0,
            "curriculum.adversarial_from": 0.0,
            "discriminator_width": 32,
        }
    return found


_PAPER = {"adversarial": 2.0, "feature_matching": 10.0, "patch_nce": 1.0, "attention": 4.0}
_SINGLE = {"single_frame": True, "video_steps": (5,), "architecture.in_channels": 3, "architecture.memory": 0}
_SINGLE |= {"architecture.attention": False, "curriculum.own_frames": 0.0, "knowledge": False}
_MAPS = {"architecture.vessels": True, "weights.vessels": 2.0, "curriculum.lesions_from": 0.0}
_MAPS |= {"architecture.anatomy": ("artery", "vein", "disc", "fovea"), "weights.anatomy": 1.0}
UNTRAINED = "random weights"
VARIANTS: dict[str, dict[str, Any]] = {
    "paper's objective": _objective(**_PAPER),
    "paper's and reconstruction": _objective(**_PAPER, reconstruction=5.0, correlation=1.0),
    "paper's, reconstruction and lesion maps": _objective(
        **_PAPER, reconstruction=5.0, correlation=1.0, lesions=1.0
    ),
    "preset": {},
    "preset without lesion maps": {"weights.lesions": 0.0},
    "preset, one venous frame": {**_SINGLE, "weights.attention": 0.0},
    "fundus2fa": {
        **_objective(adversarial=1.0, feature_matching=10.0, gradient_variance=5.0, attention=0.0),
        **_SINGLE,
    },
    "twelve frames and maps": _MAPS,
    "one venous frame and maps": {**_SINGLE, "weights.attention": 0.0, **_MAPS},
    "maps alone": {
        **_SINGLE,
        **{f"weights.{name}": 0.0 for name in ("reconstruction", "correlation", "attention")},
        **_MAPS,
    },
    UNTRAINED: {"optimiser.rate": 1e-9},
}
"""``fundus2fa`` lacks the perceptual term of its preset: VGG-19's weights do not come with this project."""


def trained(job: tuple[str, int], core: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One variant of one seed, trained and exported on one core."""
    name, seed = job
    settings = {"architecture.width": arguments.width, **VARIANTS[name]}
    minutes = 0.01 if name == UNTRAINED else arguments.minutes
    folder = f"{run_name(name)}-{minutes:g}m-{seed}"  # another budget is another run
    run, weights = arguments.runs / folder, arguments.runs / f"{folder}-weights"
    command = pretrain_command(
        run,
        preset=PRESET,
        data=arguments.data,
        vessels=arguments.vessels,
        minutes=minutes,
        every=arguments.minutes / 2,
        seed=seed,
        crops=arguments.crop,
        settings=settings,
    )
    call(command, core)
    if not (weights / "config.json").is_file():
        pooled = ["--anatomy"] if settings.get("architecture.anatomy") else []
        call([PROGRAM, "export", str(run), "--out", str(weights), "--photos", "2", *pooled], core)
    points = curve(run)
    print(name, seed, points, flush=True)
    return {"variant": name, "seed": seed, "settings": settings, "weights": str(weights), "curve": points}


def judged(weights: str, lesions: bool, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Probes and retrieval by pooling: the encoder's own statistics, then lesion maps' beside them."""
    suite = read_suite(arguments.suite, root=arguments.root)
    encoder, _ = load_fast(weights)
    wanted = ("probe", "retrieval")
    jobs = [(a.task, p) for a in suite.asked for p in a.protocols if p in wanted]
    jobs = [(task, protocol) for task, protocol in jobs if task.data in arguments.sets]
    sets = {}
    for data in {task.data for task, _ in jobs}:
        paths = [Path(row.path) for row in suite.manifest(data).rows]
        place = arguments.runs / "statistics" / f"{Path(weights).name}-{arguments.size}-{data}.npz"
        sets[data] = pooling.collect(encoder, paths, arguments.size, place)
    train = np.array([row.split == "train" for row in suite.manifest("idrid").rows])
    fit = {name: values[train] for name, values in sets["idrid"].items()}
    own = (*pooling.LEVELS, "last")
    names = {"own statistics": own}
    if lesions:
        names["own and lesion maps"] = (*own, "lesions", DECODED)
    if "anatomy" in encoder.pooling.blocks:
        names["own, lesion maps, vessels and anatomy"] = (*own, "lesions", DECODED, "anatomy")
    found = {}
    for pooled, chosen in names.items():
        features = {data: pooling.scaled(blocks, fit, chosen) for data, blocks in sets.items()}
        found[pooled] = {
            task.name: pooling.figure(features[task.data][task.positions], task, suite, protocol)
            for task, protocol in jobs
        }
        print(pooled, {key: round(value, 3) for key, value in found[pooled].items()}, flush=True)
    return found


def main() -> None:
    """Train, judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--vessels", type=Path, nargs=2, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--suite", default=str(Path(__file__).parent / "development.toml"))
    parser.add_argument("--sets", nargs="*", default=["idrid", "rahim", "odir"], help="idrid among them")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--size", type=int, default=384, help="side of the views that are judged")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--crop", nargs="+", default=["160"])
    parser.add_argument("--runs", type=Path, default=Path("build/objectives"))
    parser.add_argument("--no-judging", action="store_true", help="train and export alone")
    parser.add_argument("--out", type=Path, default=Path("docs/results/pretraining/objectives.json"))
    arguments = parser.parse_args()
    jobs = [(name, seed) for seed in arguments.seed for name in arguments.only]
    rows = each_on_a_core(lambda job, core: trained(job, core, arguments), jobs)
    if not arguments.no_judging:
        for row in rows:
            lesions = row["variant"] != UNTRAINED and row["settings"].get("weights.lesions", 1.0) > 0
            row["figures"] = judged(row.pop("weights"), lesions, arguments)
    about = {"minutes": arguments.minutes, "width": arguments.width, "crop": arguments.crop}
    written(arguments.out, {**about, "size": arguments.size, "rows": rows})


if __name__ == "__main__":
    main()
