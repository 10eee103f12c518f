"""Reports: tables, plots, pages; published figures beside ours; the table of results is not stale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from retina_fm.errors import OutputError
from retina_fm.evaluation.report.markdown import markdown
from retina_fm.evaluation.report.page import page
from retina_fm.evaluation.report.published import beside
from retina_fm.evaluation.report.readme import BEGIN, END, readme_table, summary, write_readme
from retina_fm.evaluation.report.svg import Bar, bars, boxes, curves
from retina_fm.evaluation.report.tables import tables, text_tables, written

ROOT = Path(__file__).resolve().parents[3]
KEPT = ROOT / "docs" / "results" / "evaluation" / "summary.json"


def figure(mean: float, values: list[float] | None = None) -> dict[str, Any]:
    return {
        "mean": mean, "low": mean - 0.01, "high": mean + 0.01, "values": values or [mean],
        "bootstrap": {"low": mean - 0.1, "high": mean + 0.1},
    }  # fmt: skip


def entry(protocol: str, task: str, setting: str, model: str, **figures: Any) -> dict[str, Any]:
    return {"protocol": protocol, "task": task, "setting": setting, "model": model, "figures": figures}


@pytest.fixture
def results() -> dict[str, Any]:
    return {
        "suite": "made",
        "models": {"ours": {"kind": "encoder", "weights_sha256": "ab" * 32}, "other": {"kind": "baseline"}},
        "tasks": {"eyes": {"pictures": 9, "patients": 5, "split": "official", "classes": {"A": 4, "B": 5}}},
        "results": [
            entry("probe", "eyes", "linear", "ours", auroc=figure(0.8), aupr=figure(0.7)),
            entry("probe", "eyes", "linear", "other", auroc=figure(0.9), aupr=figure(0.6)),
            entry("few-shot", "eyes", "1 shots", "ours", auroc=figure(0.6, [0.5, 0.7]), absent=["C"]),
            entry("few-shot", "eyes", "4 shots", "ours", auroc=figure(0.7, [0.65, 0.75])),
            entry("vessels", "rite", "1 shots", "ours", auroc=figure(0.95), dice=figure(0.75)),
            entry("retrieval", "eyes", "cosine", "ours", **{"recall@1": figure(0.4)}),
        ],
        "comparisons": [
            {
                "protocol": "probe", "task": "eyes", "setting": "linear", "metric": "auroc", "model": "ours",
                "next_best": "other", "difference": -0.1, "t_test_p": None, "permutation_p": 0.0004,
            }
        ],
        "skipped": [
            {"protocol": "vessels", "task": "rite", "setting": "0 shots", "model": "ours", "reason": "none"}
        ],
        "draws": {"few-shot/eyes/1 shots": {"0": {"train": ["a.png"], "test": ["b.png"]}}},
    }  # fmt: skip


def test_tables_have_a_column_a_model_and_gaps_where_nothing_is(results: dict[str, Any]) -> None:
    found = {(t.protocol, t.metric): t for t in tables(results)}
    assert found["probe", "auroc"].models == ["ours", "other"]
    assert found["few-shot", "auroc"].rows[0][:2] == ("eyes", "1 shots")
    assert written(figure(0.8)) == "0.800 (0.700-0.900)"
    assert written(None) == "-"
    assert any(line.startswith("probe, AUROC") for line in text_tables(results))


def test_the_report_says_what_its_figures_are(results: dict[str, Any]) -> None:
    text = markdown(results)
    assert "| eyes | linear | 0.800 (0.700 to 0.900) | **0.900** (0.800 to 1.000) |" in text
    assert "| *Fundus2Video, RITE (paper)* | *1 shots* | *0.733* |" in text
    assert "| eyes | linear | other | -0.100 | - | < 0.001 |" in text
    assert "ours, vessels, rite, 0 shots: none" in text
    assert "absent classes: C" in text
    assert "not a medical device" in text


def test_published_figures_stand_beside_their_own_kind_only() -> None:
    assert [p.value for p in beside("vessels", "rite-vessels", "0 shots", "auroc")] == ["0.943"]
    assert beside("vessels", "hrf-vessels", "0 shots", "auroc") == []
    assert beside("probe", "rite", "linear", "auroc") == []


def test_the_page_is_self_contained_and_well_formed(results: dict[str, Any], tmp_path: Path) -> None:
    text = page(results, {"curves": [], "overlays": [], "galleries": [], "videos": []}, tmp_path)
    assert "src='http" not in text
    assert "href" not in text
    assert text.count("<svg") == text.count("</svg>") >= 5
    for piece in text.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + piece.split("</svg>")[0] + "</svg>")
    assert page(results, {}, tmp_path) == page(results, {}, tmp_path)


def test_perfect_and_constant_figures_can_be_drawn(results: dict[str, Any], tmp_path: Path) -> None:
    for mean in (1.0, 0.0, -3.0):
        for one in results["results"]:
            one["figures"] = {name: {"mean": mean, "low": None, "high": None} for name in one["figures"]}
            one["figures"].pop("absent", None)
        assert "<svg" in page(results, {}, tmp_path)


def test_names_from_data_cannot_become_markup(results: dict[str, Any], tmp_path: Path) -> None:
    for one in results["results"]:
        one["task"] = "<script>x</script>"
    assert "<script>" not in page(results, {}, tmp_path)


def test_plots_are_well_formed_with_little_and_odd_data() -> None:
    none, one = float("nan"), Bar("a & b", 0.5, None, None)
    for text in (
        bars("t", [("g", [one, Bar("c", none, None, None)])], low=0, high=1, label="l", reference=0.5),
        boxes("t", [("g", [("a", [0.5]), ("b", [])])], low=0, high=1, label="l"),
        curves("t", [("a", [0, 1], [0, 1])], across="x", up="y", diagonal=True),
        bars("t", [("g", [Bar("a", 1497.1, 1400.0, 1600.0)])], low=0, high=1700, label="l"),
    ):
        ElementTree.fromstring(text)


def test_a_summary_drops_drawn_ids_and_keeps_figures(results: dict[str, Any]) -> None:
    small = summary(results)
    assert "draws" not in small
    assert "values" not in small["results"][0]["figures"]["auroc"]
    assert readme_table(small) == readme_table(results)


def test_the_table_goes_between_the_marks(results: dict[str, Any], tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_readme(readme, results)
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| eyes | linear |" in text
    readme.write_text("nothing")
    with pytest.raises(OutputError, match="lacks the lines"):
        write_readme(readme, results)


def test_the_results_shown_are_those_of_the_summary_kept() -> None:
    text = (ROOT / "docs" / "measured.md").read_text(encoding="utf-8")
    assert BEGIN in text, "the page has no table of results"
    section = BEGIN + text.split(BEGIN, 1)[1].split(END, 1)[0] + END
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    assert section == readme_table(kept), "stale: run retina-fm evaluate with --readme docs/measured.md"
