"""Importing the package asks PyTorch for huge pages, unless the user has said otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SETTING = "THP_MEM_ALLOC_ENABLE"
ALLOCATES = """
import os, torch, retina_fm
print(os.environ["THP_MEM_ALLOC_ENABLE"])
large = torch.ones(16 << 20)
print(open("/proc/self/smaps_rollup").read() if os.path.exists("/proc/self/smaps_rollup") else "")
"""


def _ran(**environment: str) -> str:
    """What a fresh process prints that imports the package and fills a tensor of 64 MiB."""
    plain = {name: value for name, value in os.environ.items() if name != SETTING}
    done = subprocess.run(
        [sys.executable, "-c", ALLOCATES],
        env=plain | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def _huge_kilobytes(printed: str) -> int:
    found = re.search(r"AnonHugePages:\s+(\d+) kB", printed)
    return int(found[1]) if found else 0


def test_large_tensors_lie_in_huge_pages_where_the_kernel_has_them() -> None:
    printed = _ran()
    assert printed.splitlines()[0] == "1"
    switch = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not switch.is_file() or "[never]" in switch.read_text():
        pytest.skip("the kernel gives no huge pages")
    assert _huge_kilobytes(printed) > 32 << 10


def test_the_users_own_setting_stands() -> None:
    assert _ran(**{SETTING: "0"}).splitlines()[0] == "0"
