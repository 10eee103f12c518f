"""Work is done in the order of the jobs, in this process and in others."""

from __future__ import annotations

import pytest

from retina_fm._io.jobs import check_workers, work_through
from retina_fm.errors import ConfigError


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_with_their_jobs_in_order(workers: int) -> None:
    done = work_through(abs, [-3, 2, -1], workers=workers, note="count", unit="number", progress=False)
    assert list(done) == [(-3, 3), (2, 2), (-1, 1)]


def test_no_jobs_are_no_work() -> None:
    assert list(work_through(abs, [], workers=None, note="", unit="", progress=False)) == []


def test_the_bar_counts_the_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    list(work_through(abs, [1, 2], workers=1, note="count", unit="number", progress=True))
    assert "count: 100%" in capsys.readouterr().err


def test_fewer_than_one_worker_is_refused() -> None:
    check_workers(None)
    check_workers(1)
    with pytest.raises(ConfigError, match="0 workers cannot work"):
        check_workers(0)
    with pytest.raises(ConfigError, match="-1 workers cannot work"):
        list(work_through(abs, [1], workers=-1, note="", unit="", progress=False))
