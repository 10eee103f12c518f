"""What makes vessels come soon: learning rate, initialisation, window and skips at equal processor time.

    python benchmarks/pretraining_trials.py --data EYES [--data MORE] --vessels PHOTOS MASKS
        [--minutes 20] [--only preset ...] [--runs FOLDER] [--out docs/results/pretraining/trials.json]

Each variant is one process on one core of its own, as many at once as there are cores, so that minutes are
processor minutes; the schedule is that long. No lesions are painted: vessels alone are asked for. Figures
are the zero-shot AUROC of vessels on labelled photographs that no run trains on, as ``pretrain --vessels``
reads them. A killed script goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pretraining_common import call, curve, each_on_a_core, pretrain_command, run_name
from tables import written

VARIANTS: dict[str, dict[str, Any]] = {
    "preset": {},
    "rate 5e-4": {"optimiser.rate": 5e-4},
    "rate 4e-3": {"optimiser.rate": 4e-3},
    "N(0, 0.02), rate 2e-4": {"initialisation": "normal", "optimiser.rate": 2e-4},
    "windows of 384": {"curriculum.crops": "384"},
    "windows of 160": {"curriculum.crops": "160"},
    "no skips": {"architecture.skips": False},
}
PRESET = "fundus2video-half"


def trained(name: str, core: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One variant on one core, and what its validations said."""
    run = arguments.runs / run_name(name)
    settings = {"curriculum.lesions_from": 2.0, **VARIANTS[name]}
    crops = settings.pop("curriculum.crops", None)
    command = pretrain_command(
        run,
        preset=PRESET,
        data=arguments.data,
        vessels=arguments.vessels,
        minutes=arguments.minutes,
        every=arguments.every,
        seed=arguments.seed,
        crops=[crops] if crops else [],
        settings=settings,
    )
    call(command, core)
    row = {"variant": name, "settings": settings, "windows": crops, "curve": curve(run)}
    print(name, row["curve"], flush=True)
    return row


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """AUROC by minutes, a line a variant."""
    try:
        from matplotlib import pyplot
    except ImportError:
        print("matplotlib is not installed: no plot")
        return
    figure, axis = pyplot.subplots(figsize=(6.5, 4))
    for row in rows:
        minutes, heights = ([p[key] for p in row["curve"]] for key in ("minutes", "auroc"))
        axis.plot(
            minutes, heights, marker="o", label=f"{row['variant']} ({row['curve'][-1]['samples']} samples)"
        )
    axis.set_xlabel("minutes of one core")
    axis.set_ylabel("zero-shot AUROC of vessels")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--vessels", type=Path, nargs=2, required=True)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--every", type=float, default=5.0, help="minutes between validations")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("build/trials"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/pretraining/trials.json"))
    arguments = parser.parse_args()
    rows = each_on_a_core(lambda name, core: trained(name, core, arguments), arguments.only)
    written(arguments.out, {"minutes": arguments.minutes, "preset": PRESET, "rows": rows})
    plot(rows, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
