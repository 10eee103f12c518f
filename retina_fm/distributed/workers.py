"""What runs on the machines of a cluster: tasks that decode, actors that hold the model."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from retina_fm.encoding.rows import Elsewhere
from retina_fm.encoding.work import Decoded, decode, views_of
from retina_fm.errors import ConfigError, PictureError
from retina_fm.pictures import Transform

JOB = "job"
"""The one column of what passes between machines: a pickled job a row, a batch of the model each."""


class Made(NamedTuple):
    """A batch that went through the model.

    Attributes:
        items: its photos, without their views.
        embeddings: ``(B, D)`` of those that could be read.
        signatures: ``(B, K)``, or None.
        precision: number type of the actor, and why.
    """

    items: list[Decoded]
    embeddings: np.ndarray
    signatures: np.ndarray | None
    precision: str


def packed(job: Any) -> pa.Table:
    """A job as a row of a table; views of large batches outgrow 2 GiB in a column of the small kind."""
    return pa.table({JOB: pa.array([pickle.dumps(job, protocol=5)], pa.large_binary())})


def unpacked(table: pa.Table) -> list[Any]:
    """The jobs of a table of this package's own making."""
    return [pickle.loads(value.as_buffer()) for value in table.column(JOB)]


def decode_job(table: pa.Table, transform: Transform) -> pa.Table:
    """Photos of a job to views."""
    rows = [
        packed([_decoded(position, photo, transform) for position, photo in job]) for job in unpacked(table)
    ]
    return pa.concat_tables(rows)


class EmbeddingActor:
    """The model, loaded once, and what it makes of jobs."""

    def __init__(
        self,
        model: str,
        settings: Mapping[str, Any],
        identity: Mapping[str, str],
        threads: int,
        signature: bool,
    ) -> None:
        import torch

        from retina_fm.encoding.embedder import Embedder

        torch.set_num_threads(threads)
        self.embedder = Embedder(model, compile=False, **settings)
        self.signature = signature
        encoder = self.embedder.encoder
        found = {"weights_sha256": encoder.weights_sha256, "transform_hash": encoder.transform.hash}
        for key, value in found.items():
            if value != identity[key]:
                raise ConfigError(
                    f"{model} has another {key} on a machine of the cluster ({value}) than where encode was "
                    f"called ({identity[key]}). Install the same weights on all."
                )

    def __call__(self, table: pa.Table) -> pa.Table:
        """Views to vectors."""
        return pa.concat_tables([packed(self.made(items)) for items in unpacked(table)])

    def made(self, items: Sequence[Decoded]) -> Made:
        """One batch."""
        good = [item for item in items if item.error is None]
        vectors, signatures = np.empty((0, self.embedder.encoder.num_features), np.float32), None
        if good and self.signature:
            vectors, signatures = self.embedder.both(good)
        elif good:
            vectors = self.embedder(views_of(good))
        bare = [item._replace(view=None) for item in items]
        return Made(bare, vectors, signatures, str(self.embedder.precision))


def _decoded(position: int, photo: Any, transform: Transform) -> Decoded:
    if not isinstance(photo, Elsewhere):
        return decode(position, photo, transform)
    try:
        content = photo.fetch()
    except Exception as error:  # every kind of store has exceptions of its own
        reason = (
            f"{photo.name}: cannot be fetched ({type(error).__name__}: {error}). Check it, and run again."
        )
        return Decoded(position, None, None, PictureError(reason))
    return decode(position, {"bytes": content, "path": photo.name}, transform)
