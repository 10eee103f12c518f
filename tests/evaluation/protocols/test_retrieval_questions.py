"""Questions of retrieval: what is right, what is in the gallery, and what chance would give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retina_fm.evaluation.manifest import Manifest, Row
from retina_fm.evaluation.protocols.retrieval import retrieve
from retina_fm.evaluation.protocols.retrieval_questions import (
    answer,
    chance_of,
    cosines_of,
    figures_of,
    products_of,
    questions_of,
    turned_cosines_of,
)
from retina_fm.evaluation.suite import union_manifest
from retina_fm.signatures import default_basis


def row(name: str, patient: str = "", eye: str = "", modality: str = "", **columns: str) -> Row:
    return Row(name, Path(name), patient or name, eye=eye, modality=modality, columns=columns)


CLINIC = [
    row("a1", "a", "left", visit="1", camera="x"),
    row("a2", "a", "left", visit="1", camera="y"),
    row("a3", "a", "left", visit="2", camera="x"),
    row("a4", "a", "right", visit="1", camera="x"),
    row("b1", "b", "left", visit="1", camera="x"),
    row("b2", "b", "", visit="1", camera="x"),  # an eye that nobody named
    row("nobody"),
]


def names(rows: list[Row], mask: np.ndarray) -> list[str]:
    return [rows[i].name for i in np.flatnonzero(mask)]


def told(rows: list[Row], question: str, name: str) -> tuple[list[str], list[str]]:
    """Right answers and gallery of one query."""
    found = {one.name: one for one in questions_of(rows)}[question]
    query = np.array([[one.name for one in rows].index(name)])
    assert query[0] in found.asked
    return names(rows, found.right(query)[0]), names(rows, found.among(query)[0])


def test_each_question_has_its_own_right_answers_and_gallery() -> None:
    assert [q.name for q in questions_of(CLINIC)] == ["same eye, another visit", "same eye, another camera",
                                                      "other eye"]  # fmt: skip
    others = ["a4", "b1", "b2", "nobody"]
    assert told(CLINIC, "same eye, another visit", "a1") == (["a3"], ["a3", *others])
    assert told(CLINIC, "same eye, another visit", "a3") == (["a1", "a2"], ["a1", "a2", *others])
    assert told(CLINIC, "same eye, another camera", "a1") == (["a2"], ["a2", *others])
    assert told(CLINIC, "other eye", "a1") == (["a4"], others)
    assert told(CLINIC, "other eye", "a4") == (["a1", "a2", "a3"], ["a1", "a2", "a3", "b1", "b2", "nobody"])
    asked = {q.name: names(CLINIC, np.isin(np.arange(7), q.asked)) for q in questions_of(CLINIC)}
    assert asked["other eye"] == ["a1", "a2", "a3", "a4"]
    assert asked["same eye, another camera"] == ["a1", "a2", "a3"]


def test_photos_and_frames_find_each_other_by_phase() -> None:
    rows = [
        row("p1", "a", "left", "CF"), row("p2", "b", "left", "CF"), row("p3", "a", "right", "CF"),
        row("e1", "a", "left", "FFA", phase="arterial"), row("l1", "a", "left", "FFA", phase="late"),
        row("e2", "b", "left", "FFA", phase="arterial"), row("u1", "b", "", "FFA", phase="late"),
    ]  # fmt: skip
    found = [q.name for q in questions_of(rows)]
    assert found == ["other eye", "photo to frame, arterial", "frame to photo, arterial",
                     "photo to frame, late", "frame to photo, late"]  # fmt: skip
    assert told(rows, "photo to frame, arterial", "p1") == (["e1"], ["e1", "e2"])
    assert told(rows, "frame to photo, late", "l1") == (["p1"], ["p1", "p2", "p3"])
    assert told(rows, "photo to frame, late", "p1") == (["l1"], ["l1", "u1"])
    pairs = [row("c", "1", "", "colour"), row("f", "1", "", "ffa"), row("g", "2", "", "ffa")]
    assert [q.name for q in questions_of(pairs)] == ["photo to frame", "frame to photo"]  # no phase, no eye
    assert told(pairs, "photo to frame", "c") == (["f"], ["f", "g"])


def test_a_union_is_asked_set_by_set_among_all_pictures() -> None:
    one = Manifest("one", (row("a", "1", "left"), row("b", "1", "left")), True, "x")
    two = Manifest("two", (row("a", "1", "left"), row("b")), False, "y")
    both = union_manifest("both", [one, two])
    assert [r.name for r in both.rows] == ["one/a", "one/b", "two/a", "two/b"]
    assert both.rows[2].patient == "two/a" and both.sha256 not in ("x", "y")
    rows = list(both.rows)
    assert [q.name for q in questions_of(rows)] == ["one: same eye, another picture"]
    visited = [row(n, "v", "left", visit=n, set="three") for n in "12"]
    assert [q.name for q in questions_of([*rows, *visited])] == [
        "one: same eye, another picture", "three: same eye, another visit"
    ]  # fmt: skip
    assert told(rows, "one: same eye, another picture", "one/a") == (["one/b"], ["one/b", "two/a", "two/b"])


def test_ranks_count_ties_against_and_chance_is_stated() -> None:
    rows = [row("a1", "a", "left"), row("a2", "a", "left"), row("b", "b", "left"), row("c", "c", "left")]
    features = np.array([[1.0, 0, 0], [0.8, 0.6, 0], [0.8, 0.6, 0], [0, 0, 1]])
    (question, *_) = questions_of(rows)
    done = answer(question, cosines_of(features))
    assert done.ranks.tolist() == [2, 2] and done.gallery.tolist() == [3, 3] and done.right.tolist() == [1, 1]
    said = figures_of([question], cosines_of(features), rows, ks=(1, 2), samples=20)[
        "same eye, another picture"
    ]
    assert said["recall@1"]["mean"] == 0 and said["recall@2"]["mean"] == 1
    assert said["recall@1"]["chance"] == pytest.approx(1 / 3)
    assert said["recall@2"]["chance"] == pytest.approx(2 / 3)
    assert said["ranks"] == {"a1": 2, "a2": 2} and (said["queries"], said["patients"]) == (2, 1)
    # two right ones among five: at least one in two draws
    assert chance_of(np.array([2]), np.array([5]), 2)[0] == pytest.approx(1 - 3 / 5 * 2 / 4)
    assert chance_of(np.array([1]), np.array([2]), 10)[0] == 1


def test_chance_is_what_random_features_reach() -> None:
    random = np.random.default_rng(0)
    rows = [row(f"{p}{i}", str(p), "left") for p in range(60) for i in range(2)]
    features = random.normal(size=(120, 32))
    (question, *_) = questions_of(rows)
    said: dict[str, Any] = figures_of([question], cosines_of(features), rows, ks=(10,), samples=50)
    figure = said["same eye, another picture"]["recall@10"]
    assert figure["chance"] == pytest.approx(10 / 119) and abs(figure["mean"] - 10 / 119) < 0.08
    assert "ranks" not in said["same eye, another picture"]


def test_turned_signatures_find_a_turned_eye_and_likeness_may_rank_in_place_of_features() -> None:
    basis = default_basis()
    random = np.random.default_rng(0)
    signatures = random.normal(size=(6, basis.length)).astype(np.float32)
    signatures /= np.linalg.norm(signatures, axis=1, keepdims=True)
    signatures[1] = basis.variants(signatures[:1])[0, 5]
    rows = [row("a1", "a", "left"), row("a2", "a", "left"), *(row(n, n, "left") for n in "bcde")]
    (question, *_) = questions_of(rows)
    upright, turned = products_of(signatures), turned_cosines_of(signatures, basis)
    assert answer(question, turned).ranks.tolist() == [1, 1]
    assert upright(np.array([0]))[0, 1] < turned(np.array([0]))[0, 1]
    patients = np.array([one.patient for one in rows])
    assert retrieve(turned, patients, ks=(1,)).hits.all()
    assert np.array_equal(
        retrieve(upright, patients).order[:, :5], retrieve(signatures, patients).order[:, :5]
    )
