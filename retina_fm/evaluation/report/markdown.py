"""``report.md``: the tables of an evaluation, what they are of, and the paper's figures beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retina_fm.evaluation.protocols.zero_shot import READINGS
from retina_fm.evaluation.report.published import PAPER, beside
from retina_fm.evaluation.report.tables import NAMES, Table, interval_of, tables

PROTOCOL_WORDS = {
    "probe": "Logistic regression, its C chosen on training folds; official test part or folds by patient.",
    "zero-shot": "No training. " + "; ".join(f"*{name}*: {words}" for name, words in READINGS.items()) + ".",
    "few-shot": "k examples a class, each of another patient; everything of other patients is judged.",
    "supervised": "55 : 15 : 30 by patient, or the official split; frozen features, best validation AUROC.",
    "systemic": "Right eye, one visit, five-year outcome, balanced by age band.",
    "retrieval": "Nearest others by cosine; a hit is a picture of the same patient, the query left out.",
    "vessels": "AUROC and Dice a picture inside the field of view, averaged; k pictures to learn from.",
    "video": "Generated frames against real ones, a mean over frames.",
}
INTERVALS = (
    "Intervals are 95 %, by bootstrap over patients where there is one, else 1.96 standard errors over runs. "
    "They hold what was trained fixed: they say how sure a figure is for these models, not for another draw. "
    "Research use; not a medical device."
)


def markdown(results: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    lines = [f"# Evaluation: {results['suite']}", "", INTERVALS, ""]
    lines += [*_models(results), *_tasks(results)]
    for protocol in dict.fromkeys(table.protocol for table in tables(results)):
        lines += [f"## {protocol}", "", PROTOCOL_WORDS.get(protocol, ""), ""]
        for table in tables(results):
            if table.protocol == protocol:
                lines += [*markdown_table(table), ""]
        if protocol == "retrieval":
            lines += _questions(results)
        lines += _comparisons(results, protocol)
    lines += _skipped(results)
    return "\n".join(lines).rstrip() + "\n"


def markdown_table(table: Table) -> list[str]:
    """A table with the best of each row in bold, and published figures as rows of their own."""
    heads = ["task", "setting", *table.models]
    lines = [
        f"**{NAMES.get(table.metric, table.metric)}**",
        "",
        "| " + " | ".join(heads) + " |",
        "|---|---|" + "---:|" * len(table.models),
    ]
    for task, setting, figures in table.rows:
        means = [f["mean"] if f else None for f in figures]
        known = [m for m in means if m is not None]
        best = (min if table.metric in ("lpips", "fvd") else max)(known, default=None)
        cells = [_cell(f, bold=f is not None and f["mean"] == best and len(known) > 1) for f in figures]
        lines.append("| " + " | ".join([task, setting, *cells]) + " |")
        lines += [
            f"| *{p.who}* | *{p.setting or setting}* | *{p.value}* |" + " |" * (len(table.models) - 1)
            for p in beside(table.protocol, task, setting, table.metric)
        ]
    return lines


def _cell(figure: Mapping[str, Any] | None, *, bold: bool) -> str:
    if figure is None or figure.get("mean") is None:
        return "-"
    text = f"{figure['mean']:.3f}"
    interval = interval_of(figure)
    small = "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"
    return f"**{text}**{small}" if bold else text + small


def _models(results: Mapping[str, Any]) -> list[str]:
    lines = ["| model | what it is | weights |", "|---|---|---|"]
    for name, said in results["models"].items():
        what = said.get("about") or said.get("kind", "")
        if said.get("size"):
            what += f", {said['size']} px, {said.get('dimension')} numbers, licence {said.get('licence')}"
        lines.append(f"| {name} | {what} | {str(said.get('weights_sha256', ''))[:12]} |")
    return [*lines, ""]


def _tasks(results: Mapping[str, Any]) -> list[str]:
    lines = [
        "| task | pictures | patients | parts | classes | left out | repeats joined |",
        "|---|---:|---:|---|---|---|---:|",
    ]
    for name, said in results["tasks"].items():
        classes = ", ".join(f"{c} {n}" for c, n in said.get("classes", {}).items()) or "-"
        left = ", ".join(f"{n} {why}" for why, n in said.get("left_out", {}).items()) or "-"
        lines.append(
            f"| {name} | {said['pictures']} | {said['patients']} | {said['split']} | {classes} | {left} | "
            f"{len(said.get('repeats', []))} |"
        )
    return [*lines, "", *_eyes(results)]


def _eyes(results: Mapping[str, Any]) -> list[str]:
    """Other photographs of one eye, of the sets in which they were looked for."""
    found = {name: said["same_eyes"] for name, said in results["tasks"].items() if said.get("same_eyes")}
    if not found:
        return []
    lines = [
        "Other photographs of one eye, told by their signatures in sets that name no patients; in drawn "
        "parts they count as one patient:",
        "",
    ]
    for name, said in found.items():
        crossing = "".join(f"; {' and '.join(pair)} are in two parts" for pair in said["across_parts"])
        lines.append(
            f"- {name}: {len(said['pairs'])} pairs, {said['expected_false']:.1f} by chance; "
            f"{said['without_signature']} pictures show no vessels{crossing}"
        )
    return [*lines, ""]


def _questions(results: Mapping[str, Any]) -> list[str]:
    """Recall@1 of each question of retrieval, chance and gallery beside it; ranks where there are few."""
    entries = [e for e in results["results"] if e["protocol"] == "retrieval" and e.get("questions")]
    lines: list[str] = []
    for task in dict.fromkeys(entry["task"] for entry in entries):
        mine = [entry for entry in entries if entry["task"] == task]
        heads = ["question", "queries", "gallery", "chance", *(f"{e['model']}, {e['setting']}" for e in mine)]
        lines += [f"**{task}: Recall@1 of each question**", "", "| " + " | ".join(heads) + " |"]
        lines.append("|---|" + "---:|" * (len(heads) - 1))
        ranks = []
        for question, one in mine[0]["questions"].items():
            asked = [entry["questions"].get(question, {}) for entry in mine]
            figures = [said.get("recall@1") for said in asked]
            best = max((f["mean"] for f in figures if f), default=None)
            cells = [_cell(f, bold=f is not None and f["mean"] == best and len(mine) > 1) for f in figures]
            chance = f"{one['recall@1']['chance']:.4f}"
            sizes = [str(one["queries"]), f"{one['gallery']:,.0f}", chance]
            lines.append("| " + " | ".join([question, *sizes, *cells]) + " |")
            for entry, said in zip(mine, asked, strict=True):
                if said.get("ranks"):
                    told = ", ".join(map(str, said["ranks"].values()))
                    ranks.append(f"- {question}, {entry['model']}, {entry['setting']}: ranks {told}")
        lines += ["", *ranks, *([""] if ranks else [])]
    return lines


def _comparisons(results: Mapping[str, Any], protocol: str) -> list[str]:
    found = [c for c in results["comparisons"] if c["protocol"] == protocol]
    if not found:
        return []
    lines = [
        f"{found[0]['model']} against the best of the others: two-sided paired t-test over runs (as in the "
        "paper; runs of one set are not independent), and a paired permutation test over patients or "
        "pictures.",
        "",
        "| task | setting | against | difference | p, t-test | p, permutation |",
        "|---|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {c['task']} | {c['setting']} | {c['next_best']} | {c['difference']:+.3f} | "
        f"{_p(c['t_test_p'])} | {_p(c['permutation_p'])} |"
        for c in found
    ]
    return [*lines, ""]


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _skipped(results: Mapping[str, Any]) -> list[str]:
    lines = []
    if results["skipped"]:
        lines += ["## Not run", ""]
        lines += [
            f"- {s['model']}, {s['protocol']}, {s['task']}, {s['setting']}: {s['reason']}"
            for s in results["skipped"]
        ]
        lines.append("")
    open_matters = [f"- {said}" for entry in results["results"] if (said := _open_matter(entry))]
    if open_matters:
        lines += ["## Classes that could not be judged or learnt", "", *open_matters, ""]
    return [*lines, f"The paper: {PAPER}. Its figures are of other data where the names differ.", ""]


def _open_matter(entry: Mapping[str, Any]) -> str:
    """Classes of an entry that were not drawn, not judged or not learnt; empty where there are none."""
    said = []
    if entry.get("too_few"):
        said.append(f"too few patients to draw: {', '.join(entry['too_few'])}")
    said += [
        f"{key} classes: {', '.join(entry['figures'][key])}"
        for key in ("absent", "untrained")
        if key in entry["figures"]
    ]
    where = ", ".join(entry[key] for key in ("protocol", "task", "setting", "model"))
    return f"{where}: {'; '.join(said)}" if said else ""
