"""What retrieval is asked: the same eye (another visit, another camera), the other eye, photo and frame.

Each question has its own right answers and its own gallery. What is neither right nor wrong for a query, such
as another picture of its eye by the same camera when another camera's is asked for, is taken out of its
gallery, and so is the query. Ties count against: of equal scores the wrong picture is taken to be nearer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retina_fm._io.persons import is_blank
from retina_fm.evaluation.manifest import Row
from retina_fm.evaluation.tasks import one_person_each
from retina_fm.metrics.intervals import patient_bootstrap
from retina_fm.metrics.recall import KS, unit_rows
from retina_fm.metrics.scores import Floats
from retina_fm.signatures import SignatureBasis
from retina_fm.signatures.fitting import best_cosines
from retina_fm.vocabulary import PHASES

Positions = NDArray[np.int64]
Mask = NDArray[np.bool_]
Scorer = Callable[[Positions], NDArray[np.floating[Any]]]
"""Rows ``(Q,)`` to how alike they are to all rows ``(Q, N)``."""

FRAMES = ("ffa", "fa", "fluorescein angiography", "angiogram", "frame")
PHOTOS = ("", "cf", "cfp", "colour", "color", "photo", "fundus")
"""What a column ``modality`` calls them; a set without it holds photographs."""
_ANOTHER = "same eye, another picture"
_BLOCK = 64
_FEW = 40
"""Queries of a question whose ranks are told one by one."""


class Question(NamedTuple):
    """One question about some rows.

    Attributes:
        name: in words.
        asked: ``(Q,)`` rows that have a right answer.
        right: of queries ``(B,)``, bool ``(B, N)``: pictures that answer the question.
        among: of queries, bool ``(B, N)``: their galleries, with the right answers.
    """

    name: str
    asked: Positions
    right: Callable[[Positions], Mask]
    among: Callable[[Positions], Mask]


def questions_of(rows: Sequence[Row]) -> list[Question]:
    """The questions that rows can answer, by what is known of them.

    ``patient_id`` and ``eye`` name eyes; ``visit`` and ``camera`` (further columns) tell photographs of an
    eye apart; ``modality`` and ``phase`` tell photographs and frames of an angiogram. Rows with a column
    ``set`` (a union of sets) are asked set by set, among the pictures of all sets.
    """
    known = _Known(rows)
    found = []
    questions = _all(known)
    for prefix, mine in _by_set(rows):
        visits = (known.visit[mine] >= 0).any()
        for question in questions:
            if visits and question.name == _ANOTHER:
                continue  # that of visits says more
            asked = question.asked[np.isin(question.asked, mine)]
            asked = asked[question.right(asked).any(axis=1)] if len(asked) else asked
            if len(asked):
                found.append(question._replace(name=prefix + question.name, asked=asked))
    return found


class _Known:
    """What is known of each row, as numbers that are equal where the words are, -1 where there are none."""

    def __init__(self, rows: Sequence[Row]) -> None:
        people = one_person_each(rows)
        named = [None if person == row.name else person for person, row in zip(people, rows, strict=True)]
        self.patient = _codes(named)
        self.eye = _codes(
            [f"{who}\0{row.eye}" if who and row.eye else None for who, row in zip(named, rows, strict=True)]
        )
        self.visit, self.camera = (
            _codes([None if is_blank(row.columns.get(name)) else row.columns[name] for row in rows])
            for name in ("visit", "camera")
        )
        modality = [row.modality.strip().lower() for row in rows]
        self.frame = np.array([word in FRAMES for word in modality])
        self.photo = np.array([word in PHOTOS for word in modality])
        self.phase = np.array([str(row.columns.get("phase", "")).strip().lower() for row in rows])


def _codes(words: Sequence[str | None]) -> Positions:
    numbers: dict[str, int] = {}
    return np.array([-1 if w is None else numbers.setdefault(w, len(numbers)) for w in words], np.int64)


def _by_set(rows: Sequence[Row]) -> list[tuple[str, Positions]]:
    names = [row.columns.get("set", "") for row in rows]
    several = len(set(names)) > 1
    return [
        (f"{name}: " if several else "", np.flatnonzero(np.array(names) == name))
        for name in dict.fromkeys(names)
    ]


def _all(known: _Known) -> list[Question]:
    photos = np.flatnonzero(known.photo)
    found = []
    for name, column in (("visit", known.visit), ("camera", known.camera)):
        if (column >= 0).any():
            found.append(_same_eye(f"same eye, another {name}", known, photos, column))
    found.append(_same_eye(_ANOTHER, known, photos, None))
    found.append(_other_eye(known, photos))
    if known.frame.any():
        phases = [phase for phase in PHASES if (known.phase[known.frame] == phase).any()]
        for phase in phases if len(phases) > 1 else [""]:
            frames = known.frame & (known.phase == phase) if phase else known.frame
            words = f", {phase}" if phase else ""
            found.append(_across(f"photo to frame{words}", known, known.photo, frames))
            found.append(_across(f"frame to photo{words}", known, frames, known.photo))
    return found


def _same(column: Positions, rows: Positions) -> Mask:
    return np.asarray((column[rows, None] == column[None]) & (column[rows, None] >= 0))


def _itself(rows: Positions, count: int) -> Mask:
    return np.asarray(rows[:, None] == np.arange(count)[None])


def _same_eye(name: str, known: _Known, photos: Positions, column: Positions | None) -> Question:
    count = len(known.eye)

    def right(rows: Positions) -> Mask:
        same: Mask = np.asarray(_same(known.eye, rows) & known.photo & ~_itself(rows, count))
        if column is None:
            return same
        apart = (column[rows, None] >= 0) & (column[None] >= 0) & ~_same(column, rows)
        return np.asarray(same & apart)

    def among(rows: Positions) -> Mask:
        others = known.photo & ~_same(known.eye, rows) & ~_itself(rows, count)
        return np.asarray(others | right(rows))

    return Question(name, photos, right, among)


def _other_eye(known: _Known, photos: Positions) -> Question:
    count = len(known.eye)

    def right(rows: Positions) -> Mask:
        fellow = _same(known.patient, rows) & (known.eye[None] >= 0) & (known.eye[rows, None] >= 0)
        return np.asarray(fellow & ~_same(known.eye, rows) & known.photo)

    def among(rows: Positions) -> Mask:
        # a picture of the patient whose eye nobody named may be of either
        unsure = _same(known.patient, rows) & ~right(rows)
        return np.asarray(known.photo & ~unsure & ~_itself(rows, count))

    return Question("other eye", photos, right, among)


def _across(name: str, known: _Known, asked: Mask, answered: Mask) -> Question:
    eyes = np.where(known.eye >= 0, known.eye + 1 + len(known.patient), known.patient)

    def right(rows: Positions) -> Mask:
        return _same(eyes, rows) & answered

    def among(rows: Positions) -> Mask:
        # where the query's eye is named and another picture's is not, it may be the same one
        unsure = (
            _same(known.patient, rows)
            & ~_same(eyes, rows)
            & ((known.eye[None] < 0) | (known.eye[rows, None] < 0))
        )
        return np.asarray(answered & ~unsure & ~_itself(rows, len(known.patient)))

    return Question(name, np.flatnonzero(asked), right, among)


def cosines_of(features: Floats) -> Scorer:
    """Cosines of features ``(N, D)``; rows of zeros are like nothing."""
    unit = unit_rows(features)
    return lambda rows: np.asarray(unit[rows] @ unit.T)


def products_of(points: NDArray[np.float32]) -> Scorer:
    """Inner products of points ``(N, D)``, taken as they are."""
    return lambda rows: np.asarray(points[rows] @ points.T)


def turned_cosines_of(signatures: NDArray[np.float32], basis: SignatureBasis) -> Scorer:
    """The best cosines of signatures turned and zoomed, less their discount."""

    def scorer(rows: Positions) -> NDArray[np.float32]:
        parts = [
            best_cosines(basis, signatures[rows[i : i + 16]], signatures) for i in range(0, len(rows), 16)
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(signatures)), np.float32)

    return scorer


def eyes_first_of(alike: Scorer, eyes: Scorer, least: float) -> Scorer:
    """What is alike, after pictures whose signatures' cosine is that of one eye."""

    def scorer(rows: Positions) -> NDArray[np.floating[Any]]:
        same = np.asarray(eyes(rows))
        return np.where(same >= least, 1 + same, np.asarray(alike(rows)))

    return scorer


class Answered(NamedTuple):
    """What each query of a question found.

    Attributes:
        ranks: ``(Q,)`` of the nearest right answer, from 1.
        right: ``(Q,)`` right answers in the gallery.
        gallery: ``(Q,)`` pictures that could be found.
    """

    ranks: Positions
    right: Positions
    gallery: Positions


def answer(question: Question, scorer: Scorer) -> Answered:
    """Ranks of the nearest right answers, a block of queries at a time."""
    parts = []
    for start in range(0, len(question.asked), _BLOCK):
        rows = question.asked[start : start + _BLOCK]
        right, among = question.right(rows), question.among(rows)
        scores = np.where(among, np.asarray(scorer(rows), np.float64), -np.inf)
        best = np.where(right, scores, -np.inf).max(axis=1)
        nearer = (scores >= best[:, None]) & among & ~right
        parts.append((1 + nearer.sum(axis=1), right.sum(axis=1), among.sum(axis=1)))
    return Answered(*(np.concatenate(column).astype(np.int64) for column in zip(*parts, strict=True)))


def chance_of(right: Positions, gallery: Positions, k: int) -> Floats:
    """``(Q,)``: how likely one right answer at least is among k pictures of the gallery that are drawn."""
    none = np.ones(len(right))
    for drawn in range(k):
        left = np.maximum(gallery - drawn, 1)
        none *= np.clip((gallery - right - drawn) / left, 0, 1)
    return 1 - none


def figures_of(
    questions: Sequence[Question],
    scorer: Scorer,
    rows: Sequence[Row],
    *,
    ks: Sequence[int] = KS,
    samples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Recall@K of each question with a bootstrap over patients, chance, and how many there were.

    Returns:
        By question: ``queries``, ``patients``, ``gallery`` (a mean over queries), ``median_rank``,
        ``recall@k`` (``mean``, ``low``, ``high``, ``chance``), and ``ranks`` by picture where there are few.
    """
    people = np.array(one_person_each(rows))
    found: dict[str, dict[str, Any]] = {}
    for question in questions:
        done, who = answer(question, scorer), people[question.asked]
        hits = (done.ranks[:, None] <= np.array(ks)).astype(np.float64)
        intervals = patient_bootstrap(hits, who, samples, seed)
        figures: dict[str, Any] = {
            "queries": len(question.asked),
            "patients": len(np.unique(who)),
            "gallery": round(float(done.gallery.mean()), 1),
            "median_rank": float(np.median(done.ranks)),
        }
        for k, interval in zip(ks, intervals, strict=True):
            chance = float(chance_of(done.right, done.gallery, k).mean())
            figures[f"recall@{k}"] = {**interval.as_dict(), "chance": chance}
        if len(question.asked) <= _FEW:
            names = [rows[row].name for row in question.asked]
            figures["ranks"] = dict(zip(names, done.ranks.tolist(), strict=True))
        found[question.name] = figures
    return found
