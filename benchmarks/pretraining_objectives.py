"""What each objective teaches at equal processor time, and what lesion maps add to the embedding.

    python benchmarks/pretraining_objectives.py --data EYES [--data MORE] --vessels PHOTOS MASKS --root DATA
        [--minutes 15] [--only ...] [--runs FOLDER] [--out docs/results/pretraining/objectives.json]

Every variant has half the width, the same photographs, half of them painted with lesions, windows of 160
pixels and as many minutes of one core; then its encoder is exported and judged by linear probes and by
retrieval of the fellow eye on the development sets, once with its own statistics alone and once with
those of the lesion maps beside them, where it has any. What statistics are scaled on is the training part
of IDRiD. A killed script goes on where it was.
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
}
"""``fundus2fa`` lacks the perceptual term of its preset: VGG-19's weights do not come with this project."""


def trained(name: str, core: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One variant trained and exported on one core."""
    settings = VARIANTS[name]
    folder = f"{run_name(name)}-{arguments.minutes:g}m-{arguments.seed}"  # another budget is another run
    run, weights = arguments.runs / folder, arguments.runs / f"{folder}-weights"
    command = pretrain_command(
        run,
        preset=PRESET,
        data=arguments.data,
        vessels=arguments.vessels,
        minutes=arguments.minutes,
        every=arguments.minutes / 2,
        seed=arguments.seed,
        crops=["160"],
        settings=settings,
    )
    call(command, core)
    if not (weights / "config.json").is_file():
        call([PROGRAM, "export", str(run), "--out", str(weights), "--photos", "2"], core)
    points = curve(run)
    print(name, points, flush=True)
    return {"variant": name, "settings": settings, "weights": str(weights), "curve": points}


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
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("build/objectives"))
    parser.add_argument("--no-judging", action="store_true", help="train and export alone")
    parser.add_argument("--out", type=Path, default=Path("docs/results/pretraining/objectives.json"))
    arguments = parser.parse_args()
    rows = each_on_a_core(lambda name, core: trained(name, core, arguments), arguments.only)
    if not arguments.no_judging:
        for row in rows:
            lesions = VARIANTS[row["variant"]].get("weights.lesions", 1.0) > 0
            row["figures"] = judged(row.pop("weights"), lesions, arguments)
    written(arguments.out, {"minutes": arguments.minutes, "size": arguments.size, "rows": rows})


if __name__ == "__main__":
    main()
