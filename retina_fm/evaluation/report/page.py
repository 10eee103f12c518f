"""``report.html``: one self-contained page with tables, plots, overlays, galleries and video sheets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup

from retina_fm._io.pages import file_url, render
from retina_fm.evaluation.report.markdown import INTERVALS, PROTOCOL_WORDS, markdown
from retina_fm.evaluation.report.svg import Bar, bars, boxes, curves
from retina_fm.evaluation.report.tables import NAMES, Table, interval_of, tables


def page(results: Mapping[str, Any], assets: Mapping[str, Any], folder: Path) -> str:
    """The report as HTML.

    Args:
        results: as in ``results.json``.
        assets: as in ``assets.json``.
        folder: that the assets' files are relative to; they are put into the page.
    """
    every = tables(results)
    return render(
        "report.html",
        title=f"Evaluation: {results['suite']}",
        intervals=INTERVALS,
        protocols=[
            _protocol(name, [table for table in every if table.protocol == name], assets, folder)
            for name in dict.fromkeys(table.protocol for table in every)
        ],
        tables=_tables(markdown(results)),
    )


def _protocol(name: str, mine: Sequence[Table], assets: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What the page shows of one protocol."""
    found = {
        kind: [asset for asset in assets.get(kind, ()) if asset["protocol"] == name]
        for kind in ("curves", "overlays", "galleries", "videos")
    }
    return {
        "name": name,
        "words": PROTOCOL_WORDS.get(name, "").replace("*", ""),
        "plots": [Markup(plot(table)) for table in mine],
        "curves": _curves(found["curves"]),
        "overlays": [
            (file_url(folder / one["file"]), ", ".join((one["model"], one["setting"], one["picture"])))
            for one in found["overlays"]
        ],
        "galleries": [
            {
                "name": ", ".join((one["model"], one["task"], one["setting"])),
                "rows": [_gallery_row(row, folder) for row in one["rows"]],
            }
            for one in found["galleries"]
        ],
        "sheets": [
            (
                file_url(folder / one["file"]),
                f"{one['model']}, {one['task']}: photo and real frames, generated ones below (synthetic)",
            )
            for one in found["videos"]
        ],
    }


def _gallery_row(row: Mapping[str, Any], folder: Path) -> list[tuple[str, str]]:
    kinds = ["query", *("same" if same else "" for same in row["same"][1:])]
    return [(file_url(folder / file), kind) for file, kind in zip(row["pictures"], kinds, strict=True)]


def _tables(text: str) -> Markup:
    """The tables of the report in Markdown, without its title and introduction."""
    body = "\n".join(text.splitlines()[4:]).replace("\n## ", "\n### ")
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(body))


def plot(table: Table) -> str:
    """Boxes over runs for few shots, as in the paper; bars with intervals for everything else."""
    known = [f for _, _, figures in table.rows for f in figures if f and f.get("mean") is not None]
    edges = [v for f in known for v in (interval_of(f) or (f["mean"], f["mean"]))]
    edges += [v for f in known for v in f.get("values", ()) if v is not None]
    unit = all(0 <= v <= 1.0001 for v in edges)
    low = _floor(min(edges, default=0)) if unit else min(0.0, *edges)
    high = 1.0 if unit else max(max(edges) * 1.05, low + 1e-3)
    title = f"{table.protocol}: {NAMES.get(table.metric, table.metric)}"
    chance = 0.5 if table.metric == "auroc" and low < 0.5 else None
    settings = dict.fromkeys(setting for _, setting, _ in table.rows)
    if table.protocol in ("few-shot", "systemic") and len(settings) > 1:
        plots = []
        for task in dict.fromkeys(task for task, _, _ in table.rows):
            groups = [
                (
                    setting,
                    [
                        (m, f["values"])
                        for m, f in zip(table.models, figures, strict=True)
                        if f and f.get("values")
                    ],
                )
                for name, setting, figures in table.rows
                if name == task
            ]
            plots.append(boxes(f"{task}: {NAMES.get(table.metric, table.metric)}", groups, low=low, high=high,
                               label="a box over runs", reference=chance))  # fmt: skip
        return "".join(plots)
    rows = [
        (
            task if len(settings) == 1 else f"{task}\n{setting}",
            [_bar(m, f) for m, f in zip(table.models, figures, strict=True) if f],
        )
        for task, setting, figures in table.rows
    ]
    most = max(1, 40 // len(table.models))
    starts = range(0, len(rows), most)
    return "".join(
        bars(title, rows[s : s + most], low=low, high=high, label="mean and 95 % interval", reference=chance)
        for s in starts
    )


def _bar(model: str, figure: Mapping[str, Any]) -> Bar:
    low, high = interval_of(figure) or (None, None)
    return Bar(model, float("nan") if figure["mean"] is None else figure["mean"], low, high)


def _floor(value: float) -> float:
    return min(0.9, max(0.0, int(value * 10) / 10))  # a plot needs some height


def _curves(mine: Sequence[Mapping[str, Any]]) -> list[Markup]:
    plots = []
    for task, setting in dict.fromkeys((c["task"], c["setting"]) for c in mine):
        same = [c for c in mine if (c["task"], c["setting"]) == (task, setting)]
        name = f"{task}, {setting}"
        roc = [(c["model"], c["grid"], c["true_positives"]) for c in same]
        pr = [(c["model"], c["grid"], c["precision"]) for c in same]
        plots += [
            curves(f"ROC: {name}", roc, across="false positive rate", up="true positive rate", diagonal=True),
            curves(f"Precision-recall: {name}", pr, across="recall", up="precision"),
        ]
    return [Markup(plot) for plot in plots]
