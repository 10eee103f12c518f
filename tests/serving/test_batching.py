"""The model's queue: who shares a batch, what a failure costs, how it ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

from retina_fm.serving.batching import Batcher


class Held:
    """Work that waits to be let go, and notes what it was given."""

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Event()
        self.batches: list[tuple[str, list[Any]]] = []

    def __call__(self, kind: str, items: list[Any]) -> list[Any]:
        self.batches.append((kind, list(items)))
        self.begun.set()
        assert self.go.wait(10)
        if "bad" in items:
            raise ValueError("bad")
        return [f"{kind} {item}" for item in items]


@pytest.fixture
def work() -> Held:
    return Held()


@pytest.fixture
def batcher(work: Held) -> Iterator[Batcher]:
    made = Batcher(work, 3)
    yield made
    work.go.set()
    made.close()


def test_what_waits_is_computed_together_and_kinds_apart(batcher: Batcher, work: Held) -> None:
    first = batcher.submit("a", 0)
    assert work.begun.wait(5)
    rest = [batcher.submit(kind, n) for n, kind in enumerate("abaaa", 1)]
    assert batcher.waiting == 5
    work.go.set()
    assert [one.result(5) for one in (first, *rest)] == ["a 0", "a 1", "b 2", "a 3", "a 4", "a 5"]
    # one alone at once; then as many of the oldest's kind as a batch takes; no kind is passed over for good
    assert work.batches == [("a", [0]), ("a", [1, 3, 4]), ("b", [2]), ("a", [5])]


def test_one_bad_photo_does_not_cost_its_neighbours_their_answers(batcher: Batcher, work: Held) -> None:
    first = batcher.submit("a", 0)
    assert work.begun.wait(5)
    good, bad, other = (batcher.submit("a", item) for item in ("good", "bad", "other"))
    work.go.set()
    assert (first.result(5), good.result(5), other.result(5)) == ("a 0", "a good", "a other")
    with pytest.raises(ValueError, match="bad"):
        bad.result(5)
    assert batcher.alive and batcher.submit("a", 9).result(5) == "a 9"


def test_what_is_cancelled_before_its_turn_is_not_computed(batcher: Batcher, work: Held) -> None:
    first = batcher.submit("a", 0)
    assert work.begun.wait(5)
    gone, stays = batcher.submit("a", 1), batcher.submit("a", 2)
    assert gone.cancel()
    work.go.set()
    assert (first.result(5), stays.result(5)) == ("a 0", "a 2")
    assert work.batches == [("a", [0]), ("a", [2])]


def test_closing_finishes_the_batch_under_way_and_cancels_the_rest(work: Held) -> None:
    batcher = Batcher(work, 1)
    first = batcher.submit("a", 0)
    assert work.begun.wait(5)
    second = batcher.submit("a", 1)
    threading.Timer(0.05, work.go.set).start()
    batcher.close()
    assert first.result(0) == "a 0" and not batcher.alive
    with pytest.raises(CancelledError):
        second.result(0)
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit("a", 2)
