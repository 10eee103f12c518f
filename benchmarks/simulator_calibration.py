"""How like real angiogram frames the simulated ones are, by phase.

python benchmarks/simulator_calibration.py --eyes EYES [EYES ...] --frames FFA_FRAMES [--limit 24] [--out DIR]

Prints, for each phase, figures of simulated frames beside the spread of real ones, and a two-sample test:
classifiers that are to tell simulated from real frames, each fold with a set of photographs that the others
have not seen. Real frames without a phase (under ``disease``) stand in for late ones. With --model the frames
are those that a generator makes of the same photos, as it makes them (--camera 0) and as one camera would
have taken them (--camera 1). Writes ``calibration.json`` and ``calibration.png`` (distributions, no pictures)
under --out, for a model in a folder for each value of --camera.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tables
import torch
from scipy.stats import wasserstein_distance
from simulator_frames import Seen, generated_frames, real_frames, simulated_frames
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from retina_fm.vocabulary import PHASES

ROWS = ("vessel contrast", "spectrum slope", "saturated fraction", "mean grey", "spread of grey")
LEVELS = np.arange(256) / 255


def distance(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """Wasserstein-1 between two grey-level histograms, in shares of the grey range."""
    return float(wasserstein_distance(LEVELS, LEVELS, a, b))


def pooled(frames: Sequence[Seen]) -> np.ndarray[Any, Any]:
    return np.asarray(np.mean([frame.histogram for frame in frames], axis=0))


def histogram_row(simulated: Sequence[Seen], real: Sequence[Seen], seed: int) -> dict[str, Any]:
    """Pooled simulated against pooled real, beside halves of the real; single frames against all real."""
    rng = np.random.default_rng(seed)
    halves = []
    for _ in range(200):
        order = rng.permutation(len(real))
        middle = len(real) // 2
        halves.append(
            distance(pooled([real[i] for i in order[:middle]]), pooled([real[i] for i in order[middle:]]))
        )
    everything = pooled(real)
    alone = [distance(f.histogram, pooled([g for g in real if g is not f])) for f in real]
    each = [distance(f.histogram, everything) for f in simulated]
    return {
        "pooled simulated to real": distance(pooled(simulated), everything),
        "half of real to other half": spread(halves),
        "real frame to other real": spread(alone),
        "simulated frame to real": spread(each),
        "within": bool(distance(pooled(simulated), everything) <= np.percentile(halves, 95)),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    low, median, high = np.percentile(values, [5, 50, 95])
    return {"median": float(median), "low": float(low), "high": float(high)}


def table(seen: Sequence[Seen], seed: int) -> dict[str, Any]:
    """By phase and row: both spreads; within: the simulated median lies in the real 5 to 95 % range."""
    result: dict[str, Any] = {}
    for phase in PHASES:
        simulated = [f for f in seen if f.phase == phase and not f.real]
        real = [f for f in seen if f.phase == phase and f.real]
        rows: dict[str, Any] = {"histogram distance": histogram_row(simulated, real, seed)}
        for row in ROWS:
            ours, theirs = (spread([f.figures[row] for f in group]) for group in (simulated, real))
            rows[row] = {
                "simulated": ours,
                "real": theirs,
                "within": theirs["low"] <= ours["median"] <= theirs["high"],
                "simulated frames inside": float(
                    np.mean([theirs["low"] <= f.figures[row] <= theirs["high"] for f in simulated])
                ),
            }
        result[phase] = {"simulated frames": len(simulated), "real frames": len(real), "rows": rows}
    return result


def two_sample_test(seen: Sequence[Seen], seed: int) -> dict[str, Any]:
    """AUROC of two classifiers; a fold holds out one set of photographs and a part of the real frames."""
    names = sorted(seen[0].figures)
    x = np.array([[f.figures[name] for name in names] for f in seen])
    y = np.array([not f.real for f in seen], int)
    sources = sorted({f.source for f in seen if not f.real})
    rng = np.random.default_rng(seed)
    fold = np.array([-1 if f.real else sources.index(f.source) for f in seen])
    folds = max(len(sources), 2)
    if len(sources) < 2:
        fold[y == 1] = rng.permutation(int(y.sum())) % folds
    fold[y == 0] = rng.permutation(int((y == 0).sum())) % folds
    makers = {
        "random forest": lambda: RandomForestClassifier(400, class_weight="balanced", random_state=seed),
        "logistic regression": lambda: make_pipeline(
            StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced")
        ),
    }
    result: dict[str, Any] = {"frames": {"simulated": int(y.sum()), "real": int((1 - y).sum())}}
    for name, make in makers.items():
        score = np.zeros(len(y))
        for number in range(folds):
            model = make().fit(x[fold != number], y[fold != number])
            score[fold == number] = model.predict_proba(x[fold == number])[:, 1]
        draws = []
        for _ in range(500):
            pick = rng.integers(0, len(y), len(y))
            if 0 < y[pick].sum() < len(y):
                draws.append(roc_auc_score(y[pick], score[pick]))
        low, high = np.percentile(draws, [2.5, 97.5])
        model = make().fit(x, y)
        weight = model.feature_importances_ if name == "random forest" else np.abs(model[-1].coef_[0])
        order = np.argsort(-weight)[:8]
        result[name] = {
            "auroc": {"mean": float(roc_auc_score(y, score)), "low": float(low), "high": float(high)},
            "looks at": [[names[i], round(float(weight[i]), 3)] for i in order],
        }
    return result


def figure(seen: Sequence[Seen], path: Path) -> None:
    """Histograms and rows by phase, simulated in orange beside real in blue."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = ROWS[:3]
    canvas, axes = plt.subplots(len(PHASES), 1 + len(rows), figsize=(13, 7.5))
    for line, phase in zip(axes, PHASES, strict=True):
        groups = {
            "real": [f for f in seen if f.phase == phase and f.real],
            "simulated": [f for f in seen if f.phase == phase and not f.real],
        }
        for (name, group), colour in zip(groups.items(), ("tab:blue", "tab:orange"), strict=True):
            line[0].plot(LEVELS, pooled(group) * 256, color=colour, label=name)
        line[0].set_ylim(0, 8)
        line[0].set_ylabel(phase)
        for axis, row in zip(line[1:], rows, strict=True):
            axis.boxplot(
                [[f.figures[row] for f in group] for group in groups.values()],
                tick_labels=list(groups),
                widths=0.6,
            )
    for axis, title in zip(axes[0], ("pooled grey levels (density)", *rows), strict=True):
        axis.set_title(title, fontsize=10)
    axes[0, 0].legend(frameon=False)
    canvas.tight_layout()
    canvas.savefig(path, dpi=70)


def printed(result: dict[str, Any]) -> str:
    """The tables as Markdown."""
    lines = []
    for phase, part in result["phases"].items():
        lines += [
            f"\n**{phase}** ({part['simulated frames']} simulated, {part['real frames']} real)\n",
        ]
        cells: list[tuple[Any, ...]] = []
        for name, row in part["rows"].items():
            if name == "histogram distance":
                half = row["half of real to other half"]
                halves = f"halves of real: {tables.cell(half)}"
                cells.append(
                    ("pooled histogram to real", row["pooled simulated to real"], halves, row["within"])
                )
                pair = (row["simulated frame to real"], row["real frame to other real"])
                name, inside = "one frame's histogram to all real", pair[0]["median"] <= pair[1]["high"]
            else:
                pair, inside = (row["simulated"], row["real"]), row["within"]
            cells.append((name, *pair, bool(inside)))
        heads = ["", "simulated: median (5 to 95 %)", "real: median (5 to 95 %)", "median within"]
        lines.append(tables.table(heads, cells))
    for title, test in result["two-sample tests"].items():
        lines.append(f"\n**Told apart, {title}** ({test['frames']})")
        for name in ("random forest", "logistic regression"):
            auroc = test[name]["auroc"]
            looks = ", ".join(f"{n} {w}" for n, w in test[name]["looks at"])
            lines.append(
                f"- {name}: AUROC {auroc['mean']:.3f} ({auroc['low']:.3f} to {auroc['high']:.3f}); {looks}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--eyes", type=Path, nargs="+", required=True, help="folders of prepared eyes")
    parser.add_argument("--frames", type=Path, required=True, help="folder ffa_frames")
    parser.add_argument("--limit", type=int, default=24, help="eyes a folder (24)")
    parser.add_argument("--model", help="weights whose frames to judge instead of simulated ones")
    parser.add_argument("--camera", type=float, nargs="+", default=[0.0], help="of a model's frames (0)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for calibration.json and calibration.png")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    real, tables = real_frames(options.frames)
    if not options.model:
        simulated, _ = simulated_frames(options.eyes, tables, options.limit, options.seed)
        judged([*real, *simulated], options.seed, options.out)
        return
    generated = generated_frames(
        options.eyes, tables, options.limit, options.seed, options.model, options.camera
    )
    for camera, frames in generated.items():
        print(f"\n## Camera {camera:g}")
        judged([*real, *frames], options.seed, options.out and options.out / f"camera-{camera:g}")


def judged(seen: Sequence[Seen], seed: int, out: Path | None) -> None:
    """All figures of frames beside the real ones, printed and written."""
    labelled = [f for f in seen if f.phase != "late"]
    result = {
        "sources": {s: sum(f.source == s for f in seen) for s in sorted({f.source for f in seen})},
        "phases": table(seen, seed),
        "two-sample tests": {
            "arterial and venous": two_sample_test(labelled, seed),
            "all frames": two_sample_test(seen, seed),
        },
    }
    print(printed(result), flush=True)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "calibration.json").write_text(json.dumps(result, indent=1))
        figure(seen, out / "calibration.png")


if __name__ == "__main__":
    main()
