"""Ray's actors against one process that uses all cores, the same photos, in turns.

``python benchmarks/distributed.py PHOTOS [--model fundus2video-half] [--count 32 96] [--rounds 2]``

Ray is started before anything is timed. Each timed call of ``distributed.encode`` starts its actors, which
load the model, so that a short run shows mostly that: the difference of two counts gives the later rate.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from tables import table
from timing import best_of

import retina_fm
from retina_fm.pictures import expand


def main() -> None:
    import ray

    from retina_fm import distributed

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--model", default="fundus2video-half")
    parser.add_argument("--count", type=int, nargs="+", default=[32, 96])
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    cores = arguments.actors
    torch.set_num_threads(cores)
    os.environ["OMP_NUM_THREADS"] = "1"  # of actors; this process has its threads
    os.environ["PYTHONPATH"] = str(Path(retina_fm.__file__).resolve().parent.parent)
    ray.init(
        address="local",
        num_cpus=cores,
        object_store_memory=200 << 20,
        include_dashboard=False,
        log_to_driver=False,
    )
    few, many = arguments.count
    jobs: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in (few, many):
            photos = list(islice(expand(arguments.photos), count))
            settings = {"dtype": arguments.dtype, "progress": False, "overwrite": True}
            jobs[f"one process, {count}"] = partial(
                fresh, retina_fm.encode_to, photos, Path(folder) / "one.parquet", arguments.model, settings
            )
            jobs[f"Ray, {count}"] = partial(
                fresh,
                distributed.encode,
                photos,
                Path(folder) / "ray.parquet",
                arguments.model,
                {**settings, "num_actors": arguments.actors, "num_cpus": 1},
            )
        try:
            seconds = best_of(jobs, arguments.rounds, warm=0)
        finally:
            ray.shutdown()
    print(table(["", "seconds"], list(seconds.items())))
    own, spread = (seconds[f"{who}, {many}"] - seconds[f"{who}, {few}"] for who in ("one process", "Ray"))
    print(f"{many - few} photos more: one {own:.1f} s, Ray {spread:.1f} s, rate of Ray {own / spread:.2f}")
    print(f"with all starts, {many} photos: {seconds[f'one process, {many}'] / seconds[f'Ray, {many}']:.2f}")


def fresh(
    encode: Callable[..., object], photos: list[object], out: Path, model: str, settings: dict[str, object]
) -> None:
    out.unlink(missing_ok=True)
    encode(photos, out, model, **settings)


if __name__ == "__main__":
    main()
