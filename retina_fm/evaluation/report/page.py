"""``report.html``: one self-contained page with tables, plots, overlays, galleries and video sheets."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retina_fm.evaluation.report.markdown import INTERVALS, PROTOCOL_WORDS, markdown
from retina_fm.evaluation.report.svg import Bar, bars, boxes, curves
from retina_fm.evaluation.report.tables import NAMES, Table, interval_of, tables

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1180px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{margin-top:2.4rem;border-bottom:1px solid #ddd}h3{font-size:1rem;margin-bottom:.3rem}
table{border-collapse:collapse;font-size:12.5px;margin:.6rem 0 1.2rem;display:block;overflow-x:auto}
td,th{padding:.25rem .6rem;border-bottom:1px solid #eee;text-align:left;white-space:nowrap}
td.n,th.n{text-align:right}em{color:#666}.plots{display:flex;flex-wrap:wrap;gap:12px}
.plots details{flex-basis:100%}
.plots svg{max-width:100%;height:auto;border:1px solid #eee}figure{margin:0}
figcaption{font-size:12px;color:#555}
.hit{outline:3px solid #009e73}.miss{outline:3px solid #ddd}.gallery img{width:110px;margin:4px}
img{max-width:100%}summary{cursor:pointer;color:#0072b2}
"""


def page(results: Mapping[str, Any], assets: Mapping[str, Any], folder: Path) -> str:
    """The report as HTML.

    Args:
        results: as in ``results.json``.
        assets: as in ``assets.json``.
        folder: that the assets' files are relative to; they are put into the page.
    """
    parts = [f"<h1>Evaluation: {html.escape(results['suite'])}</h1><p>{INTERVALS}</p>"]
    every = tables(results)
    for protocol in dict.fromkeys(table.protocol for table in every):
        mine = [table for table in every if table.protocol == protocol]
        words = html.escape(PROTOCOL_WORDS.get(protocol, "")).replace("*", "")
        parts.append(f"<h2>{protocol}</h2><p>{words}</p><div class='plots'>")
        parts += [plot(table) for table in mine]
        parts += _curves(assets, protocol)
        parts.append("</div>")
        parts += [_overlays(assets, protocol, folder), _galleries(assets, protocol, folder)]
        parts.append(_sheets(assets, protocol, folder))
    parts.append(f"<h2>Tables</h2>{_from_markdown(markdown(results))}")
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>Evaluation: {html.escape(results['suite'])}</title><style>{_STYLE}</style>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


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


def _curves(assets: Mapping[str, Any], protocol: str) -> list[str]:
    mine = [c for c in assets.get("curves", ()) if c["protocol"] == protocol]
    plots = []
    for task, setting in dict.fromkeys((c["task"], c["setting"]) for c in mine):
        same = [c for c in mine if (c["task"], c["setting"]) == (task, setting)]
        name = f"{task}, {setting}"
        roc = [(c["model"], c["grid"], c["true_positives"]) for c in same]
        pr = [(c["model"], c["grid"], c["precision"]) for c in same]
        plots.append(
            curves(f"ROC: {name}", roc, across="false positive rate", up="true positive rate", diagonal=True)
        )
        plots.append(curves(f"Precision-recall: {name}", pr, across="recall", up="precision"))
    if not plots:
        return []
    return [
        "<details><summary>ROC and precision-recall curves</summary><div class='plots'>",
        *plots,
        "</div></details>",
    ]


def _overlays(assets: Mapping[str, Any], protocol: str, folder: Path) -> str:
    mine = [o for o in assets.get("overlays", ()) if o["protocol"] == protocol]
    if not mine:
        return ""
    figures = [
        f"<figure>{_image(folder / o['file'], 280)}<figcaption>"
        f"{html.escape(', '.join((o['model'], o['setting'], o['picture'])))}</figcaption></figure>"
        for o in mine
    ]
    return f"<h3>Vessels: found green, missed blue, false red</h3><div class='plots'>{''.join(figures)}</div>"


def _galleries(assets: Mapping[str, Any], protocol: str, folder: Path) -> str:
    mine = [g for g in assets.get("galleries", ()) if g["protocol"] == protocol]
    parts = []
    for gallery in mine:
        lines = []
        for row in gallery["rows"]:
            shown = "".join(
                _image(folder / picture, 110, "" if i == 0 else ("hit" if same else "miss"))
                for i, (picture, same) in enumerate(zip(row["pictures"], row["same"], strict=True))
            )
            lines.append(f"<div>{shown}</div>")
        name = f"{gallery['model']}, {gallery['task']}, {gallery['setting']}"
        parts.append(f"<h3>{html.escape(name)}: query, then its nearest; same patient outlined</h3>")
        parts.append(f"<div class='gallery'>{''.join(lines)}</div>")
    return "".join(parts)


def _sheets(assets: Mapping[str, Any], protocol: str, folder: Path) -> str:
    mine = [s for s in assets.get("videos", ()) if s["protocol"] == protocol]
    return "".join(
        f"<figure>{_image(folder / s['file'], 1100)}<figcaption>{html.escape(s['model'])}, "
        f"{html.escape(s['task'])}: photo and real frames, generated ones below (synthetic)"
        "</figcaption></figure>"
        for s in mine
    )


def _image(path: Path, width: int, kind: str = "") -> str:
    form = "png" if path.suffix == ".png" else "jpeg"
    data = base64.b64encode(path.read_bytes()).decode()
    return f"<img class='{kind}' width='{width}' alt='' src='data:image/{form};base64,{data}'>"


def _from_markdown(text: str) -> str:
    """The few forms that the report's Markdown has: headings, tables, lists, bold, slanted."""
    out: list[str] = []
    rows: list[str] = []
    for line in [*text.splitlines()[4:], ""]:
        if line.startswith("|"):
            rows.append(line)
            continue
        if rows:
            out.append(_table(rows))
            rows = []
        if line.startswith("## "):
            out.append(f"<h3>{_inline(line[3:])}</h3>")
        elif line.startswith("- "):
            out.append(f"<div>{_inline(line[2:])}</div>")
        elif line:
            out.append(f"<p>{_inline(line)}</p>")
    return "".join(out)


def _table(rows: Sequence[str]) -> str:
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    right = [mark.endswith(":") for mark in cells[1]]
    lines = []
    for number, row in enumerate([cells[0], *cells[2:]]):
        kind = "td" if number else "th"
        lines.append(
            "<tr>"
            + "".join(
                f"<{kind}{' class=n' if r else ''}>{_inline(cell)}</{kind}>"
                for cell, r in zip(row, [*right, *[False] * len(row)], strict=False)
            )
            + "</tr>"
        )
    return f"<table>{''.join(lines)}</table>"


def _inline(text: str) -> str:
    words = html.escape(text, quote=False)
    for mark, tag in (("**", "b"), ("*", "em")):
        pieces = words.split(mark)
        if len(pieces) % 2:
            words = "".join(p if i % 2 == 0 else f"<{tag}>{p}</{tag}>" for i, p in enumerate(pieces))
    return words
