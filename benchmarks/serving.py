"""Photos a second through ``retina-fm serve`` for many clients against ``encode`` alone, in turns.

python benchmarks/serving.py PHOTOS [--model fundus2video-half] [--clients 64] [--seconds 60] [--rounds 3]

``encode`` decodes in a process, which it starts anew in each turn, or in a thread; the faster way counts.
All use the same photos, number type and machine. Turns alternate, so that what else the machine does meets
all alike; rates are given by the clock and by processor seconds of all processes of a side. Memory is that
of the server with its decoding processes.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tables import table

from retina_fm.encoding import encode
from retina_fm.encoding.embedder import Embedder
from retina_fm.pictures import expand


class Side:
    """What one side did in its turns."""

    def __init__(self) -> None:
        self.photos: list[int] = []
        self.seconds: list[float] = []
        self.processor: list[float] = []

    def note(self, photos: int, seconds: float, processor: float) -> None:
        self.photos.append(photos)
        self.seconds.append(seconds)
        self.processor.append(processor)

    @property
    def rate(self) -> float:
        return sum(self.photos) / sum(self.seconds)

    @property
    def rate_of_processor(self) -> float:
        return sum(self.photos) / sum(self.processor)


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def processor_seconds(process: psutil.Process, but: psutil.Process | None = None) -> float:
    """Of a process and its children, those that have ended included."""
    left_out = set(family(but)) if but is not None else set()
    total = 0.0
    for one in family(process):
        if one not in left_out:
            times = one.cpu_times()
            total += times.user + times.system
            if one == process:
                total += times.children_user + times.children_system
    return total


def memory(process: psutil.Process) -> float:
    """MiB that a process and its children hold."""
    return sum(one.memory_info().rss for one in family(process)) / 2**20


@contextmanager
def server(model: str, dtype: str) -> Iterator[tuple[psutil.Process, int]]:
    command = [sys.executable, "-m", "retina_fm", "serve", "--model", model, "--dtype", dtype, "--port", "0"]
    root = Path(__file__).resolve().parent.parent
    ran = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert ran.stderr is not None
    try:
        address = next(line for line in ran.stderr if line.startswith("http://")).split()[0]
        yield psutil.Process(ran.pid), int(address.rstrip("/").rpartition(":")[2])
    finally:
        ran.terminate()
        ran.wait(60)


def ask(port: int, photos: Iterator[bytes], until: float, told: list[tuple[int, float]]) -> None:
    """One client: one connection, one photo after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    while time.perf_counter() < until:
        began = time.perf_counter()
        try:
            connection.request("POST", "/v1/encode", next(photos))
            reply = connection.getresponse()
            reply.read()
            status = reply.status
        except (OSError, http.client.HTTPException):
            status = 0
            connection.close()
        told.append((status, time.perf_counter() - began))
    connection.close()


def turn(port: int, clients: int, photos: list[bytes], seconds: float) -> list[tuple[int, float]]:
    """All clients for some seconds; status and seconds of each answer."""
    endless, lock, told = itertools.cycle(photos), threading.Lock(), list[tuple[int, float]]()

    def drawn() -> Iterator[bytes]:
        while True:
            with lock:
                photo = next(endless)
            yield photo

    until = time.perf_counter() + seconds
    threads = [threading.Thread(target=ask, args=(port, drawn(), until, told)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--model", default="fundus2video-half")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=64)
    arguments = parser.parse_args()
    paths = list(itertools.islice(expand(arguments.photos), arguments.count))
    photos = [Path(path).read_bytes() for path in paths]
    embedder = Embedder(arguments.model, dtype=arguments.dtype)
    each = arguments.seconds / arguments.rounds
    sides = {"encode, a process decodes": Side(), "encode, a thread decodes": Side(), "serve": Side()}
    *alone, served = sides.values()
    answers, held = list[tuple[int, float]](), list[float]()
    me = psutil.Process()
    with server(arguments.model, arguments.dtype) as (process, port):
        began = time.perf_counter()
        encode(photos[:16], embedder.encoder, progress=False, workers=0)
        many = max(16, round(each * 16 / (time.perf_counter() - began)))
        turn(port, arguments.clients, photos, 2)
        print(f"{embedder.precision}; {arguments.clients} clients; {each:.0f} s a turn; {len(photos)} photos")
        for _ in range(arguments.rounds):
            some: list[Any] = list(itertools.islice(itertools.cycle(photos), many))
            for side, workers in zip(alone, (1, 0), strict=True):
                began, used = time.perf_counter(), processor_seconds(me, process)
                encode(some, embedder.encoder, progress=False, workers=workers)
                side.note(many, time.perf_counter() - began, processor_seconds(me, process) - used)
            began, used = time.perf_counter(), processor_seconds(process)
            told = turn(port, arguments.clients, photos, each)
            served.note(len(told), time.perf_counter() - began, processor_seconds(process) - used)
            answers += told
            held.append(memory(process))
    waits = np.array([seconds for _, seconds in answers])
    rows = [(name, side.rate, side.rate_of_processor) for name, side in sides.items()]
    best = max(side.rate for side in alone), max(side.rate_of_processor for side in alone)
    rows.append(("serve over encode", served.rate / best[0], served.rate_of_processor / best[1]))
    print(table(["", "photos/s", "photos a processor second"], rows))
    print(
        f"{len(answers)} answers in {sum(served.seconds):.0f} s: {dict(Counter(one for one, _ in answers))}"
    )
    print(f"median {np.median(waits):.2f} s, p99 {np.quantile(waits, 0.99):.2f} s")
    print("memory after each turn, MiB:", ", ".join(f"{one:.0f}" for one in held))


if __name__ == "__main__":
    main()
