"""``encode`` on Ray Data: decoding tasks and actors with the model on all machines, one table here."""

from __future__ import annotations

import itertools
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from retina_fm.distributed.sources import listed
from retina_fm.distributed.workers import EmbeddingActor, Made, decode_job, packed, unpacked
from retina_fm.encoding.embedder import Embedder
from retina_fm.encoding.resumable import check_place, fill_table
from retina_fm.encoding.rows import Encoded, Key
from retina_fm.encoding.shards import Shard
from retina_fm.encoding.tagging import hidden
from retina_fm.encoding.to_table import EmbeddingRows, EncodeReport
from retina_fm.encoding.work import Decoded
from retina_fm.errors import ConfigError, MissingDependencyError, WorkerError

logger = logging.getLogger("retina_fm")

_GPU_BATCH = 32
_BLOCKS, _LARGEST_BLOCK = 2000, 8
"""Tasks that a run is divided into at first, and batches that one may grow to in a long run."""
_ACTOR_SHARE, _DECODER_SHARE = 0.75, 0.25
"""Of its processors, what an actor claims: decoding needs a place beside it, and a twentieth of the time."""


def encode(
    photos: Any,
    out: str | Path,
    model: str = "fundus2video",
    *,
    num_actors: int | None = None,
    num_decoders: int | None = None,
    num_cpus: int | None = None,
    num_gpus: float | None = None,
    batch_size: int | None = None,
    dtype: str = "auto",
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool | None = None,
    overwrite: bool = False,
    signature: bool = False,
    shard: str | tuple[int, int] | None = None,
) -> EncodeReport:
    """Embeddings of photos into a table, computed on all machines of a Ray cluster.

    The table is that of :func:`retina_fm.encode_to`, and so is what survives a kill: finished rows are
    written here in parts, and the same call goes on with them. A worker that dies is replaced by Ray and its
    batches are computed again; every photo gets one row. The cluster is the one that this process is
    connected to, or that ``RAY_ADDRESS`` names; without either, Ray is started on this machine and ended with
    the call.

    Args:
        photos: as ``encode`` takes them, or ``.parquet`` files with one column of encoded pictures (rows are
            named by a column ``path`` where there is one), or a URL of a folder, a pattern, or Parquet files
            that fsspec reads (``s3://bucket/photos``). Local paths must be there on every machine.
        out: the Parquet table, written by this process; ``path`` in it is relative to its folder.
        model: a name or folder that every machine can load; weights are compared by hash.
        num_actors: copies of the model; as many as GPUs, or one a machine, without it.
        num_decoders: decoding tasks at a time; chosen without it.
        num_cpus: threads of an actor; its share of all processors without it, 1 beside a GPU.
        num_gpus: of an actor; chosen without it.
        batch_size: see :func:`retina_fm.encode`.
        dtype: see :func:`retina_fm.encode`; ``"auto"`` is decided on each machine.
        on_error: see :func:`retina_fm.encode`; the report lists what was skipped.
        progress: see :func:`retina_fm.encode`.
        overwrite: see :func:`retina_fm.encode_to`.
        signature: see :func:`retina_fm.encode_to`.
        shard: see :func:`retina_fm.encode_to`; of a local folder or pattern.

    Returns:
        Counts, skipped photos, seconds.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigError: ``out`` is no Parquet file; photos in Parquet files without one column of bytes.
        PictureError: a photo cannot be read (``on_error="raise"``); what was finished stays.
        WorkerError: Ray gave up, after tries of its own; what was finished stays.
        OutputError: see :func:`retina_fm.encode_to`.
    """
    ray = _ray()
    table = Path(out)
    if table.suffix.lower() not in ("", ".parquet", ".pq"):
        raise ConfigError(f"{table} ends in {table.suffix}; a cluster writes .parquet.")
    check_place(table, on_error)
    part = None if shard is None else Shard.read(shard)
    stated = None if part is None else part.stated(photos, table.parent)
    found = listed(photos, table.parent) if part is None else part.photos(photos)
    with _connected(ray):
        plan = _Plan.of(ray, num_actors, num_decoders, num_cpus, num_gpus)
        size = batch_size or (_GPU_BATCH if plan.gpus else None)
        here = Embedder(model, device="cpu", dtype="float32", batch_size=size, compile=False)
        if signature:
            here.check_signs()
        maker = _Spread(ray, here, model, dtype, plan, signature)
        report, _ = fill_table(
            found,
            table,
            maker,
            workers=0,
            on_error=on_error,
            progress=progress,
            overwrite=overwrite,
            stated=stated,
            stream=maker.stream,
        )
    return EncodeReport(**{**vars(report), "precision": maker.precision})


class _Plan(NamedTuple):
    """How a cluster is divided."""

    actors: int
    decoders: int
    threads: int
    gpus: float

    @classmethod
    def of(
        cls, ray: Any, actors: int | None, decoders: int | None, threads: int | None, gpus: float | None
    ) -> _Plan:
        resources = ray.cluster_resources()
        cpus, there = int(resources.get("CPU", 1)), resources.get("GPU", 0)
        machines = sum(node["Alive"] for node in ray.nodes())
        count = actors or int(there) or machines
        if gpus is None:
            gpus = min(1.0, there / count)
        threads = threads or (1 if gpus else max(1, cpus // count))
        decoders = decoders or (max(1, cpus - count) if gpus else max(1, cpus // 8))
        for name, value in (("num_actors", count), ("num_decoders", decoders), ("num_cpus", threads)):
            if value < 1:
                raise ConfigError(f"{name} is {value}; at least 1 is needed.")
        return cls(count, decoders, threads, gpus)


class _Spread(EmbeddingRows):
    """Rows of an embedding table whose vectors come from a cluster."""

    def __init__(
        self, ray: Any, here: Embedder, model: str, dtype: str, plan: _Plan, signature: bool
    ) -> None:
        super().__init__(here, signature)
        self.ray = ray
        self.model = os.path.abspath(model) if Path(model).is_dir() else model  # noqa: PTH100
        self.settings = {
            "batch_size": self.batch_size, "dtype": dtype, "device": "cuda" if plan.gpus else "cpu"
        }  # fmt: skip
        self.plan = plan
        self.precision = f"{dtype} (on {plan.actors} actors)"
        self.vectors: dict[int, tuple[np.ndarray, np.ndarray | None]] = {}

    def stream(self, photos: Iterator[tuple[int, Any]]) -> Iterator[Decoded]:
        """Photos as the cluster has finished them, whole batches of one position after another."""
        waiting: set[int] = set()
        jobs = []
        for _, group in itertools.groupby(photos, key=lambda item: item[0] // self.batch_size):
            job = [(position, _placed(photo)) for position, photo in group]
            waiting.update(position for position, _ in job)
            jobs.append(packed(job))
        if not jobs:
            return
        for made in self._computed(jobs):
            self.precision = f"{made.precision}, {self.plan.actors} actors"
            numbers = itertools.count()
            for item in made.items:
                if item.position not in waiting:
                    raise WorkerError(
                        f"Ray gave photo {item.position} twice. Run again: finished rows are kept."
                    )
                waiting.remove(item.position)
                if item.error is None:
                    at = next(numbers)
                    both = made.embeddings[at], None if made.signatures is None else made.signatures[at]
                    self.vectors[item.position] = both
                yield item
        if waiting:
            raise WorkerError(f"Ray lost {len(waiting)} photos. Run again: finished rows are kept.")

    def rows(self, keys: Sequence[Key], items: Sequence[Decoded], photos: Sequence[Any]) -> list[Encoded]:  # noqa: ARG002
        """One row a photo of the stream."""
        made = []
        for key, item in zip(keys, items, strict=True):
            vector, signature = self.vectors.pop(item.position)
            assert item.geometry is not None
            made.append(Encoded(key, vector, item.geometry, signature, hidden(item.tags, self.pseudonyms)))
        return made

    def _computed(self, jobs: list[pa.Table]) -> Iterator[Made]:
        size = min(_LARGEST_BLOCK, math.ceil(len(jobs) / _BLOCKS))
        blocks = [pa.concat_tables(jobs[first : first + size]) for first in range(0, len(jobs), size)]
        data = self.ray.data
        dataset = data.from_arrow([block.combine_chunks() for block in blocks])
        on_gpu = self.plan.gpus > 0
        one: Mapping[str, Any] = {"batch_size": 1, "batch_format": "pyarrow"}
        dataset = dataset.map_batches(
            decode_job,
            fn_kwargs={"transform": self.transform},
            num_cpus=1 if on_gpu else _DECODER_SHARE,
            compute=data.TaskPoolStrategy(size=self.plan.decoders),
            **one,
        ).map_batches(
            EmbeddingActor,
            fn_constructor_args=(
                self.model, self.settings, dict(self.identity), self.plan.threads, self.signs
            ),
            num_cpus=self.plan.threads * (1 if on_gpu else _ACTOR_SHARE),
            num_gpus=self.plan.gpus,
            compute=data.ActorPoolStrategy(size=min(self.plan.actors, len(blocks))),
            **one,
        )  # fmt: skip
        dataset.context.enable_progress_bars = False  # ours tells of photos, not of blocks
        try:
            for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
                yield from unpacked(table)
        except self.ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            told = str(cause or error).strip().splitlines() or [type(error).__name__]
            if isinstance(cause, ConfigError):
                raise ConfigError(str(cause)) from error
            raise WorkerError(
                f"Ray gave up: {told[-1]}. What was finished is kept; run the same call again."
            ) from error


def _placed(photo: Any) -> Any:
    """A photo with its path from the root: workers run in folders of their own."""
    if isinstance(photo, dict) and isinstance(photo.get("path"), str | os.PathLike):
        return {**photo, "path": os.path.abspath(photo["path"])}  # noqa: PTH100
    return os.path.abspath(photo) if isinstance(photo, str | os.PathLike) else photo  # noqa: PTH100


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingDependencyError(
            "Encoding on a cluster needs Ray, which is not installed. Install it with: pip install "
            "'ray[data]' (or '.[ray]' in a checkout)"
        ) from None
    return ray


@contextmanager
def _connected(ray: Any) -> Iterator[None]:
    """A connection to Ray, ended with the block where it began with it."""
    if ray.is_initialized():
        yield
        return
    ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.WARNING)
    try:
        yield
    finally:
        ray.shutdown()
