"""Two processes through Accelerate see and learn what one process with the same global batch does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]


def run(out: Path, accumulation: int, processes: int) -> list[float]:
    command = [str(TESTS / "run_crude.py"), str(out), "20", "2", str(accumulation), "100", "0"]
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}", "OMP_NUM_THREADS": "1"}
    if processes > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            "-m", "torch.distributed.run", f"--nproc_per_node={processes}", f"--master_port={port}", *command
        ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((out / "losses.json").read_text())


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one_with_the_same_global_batch(tmp_path):
    one = run(tmp_path / "one", accumulation=2, processes=1)
    two = run(tmp_path / "two", accumulation=1, processes=2)
    assert len(one) == len(two) == 20
    assert max(abs(a - b) for a, b in zip(one, two, strict=True)) < 1e-4 * max(one)
