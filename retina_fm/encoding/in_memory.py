"""``encode``: photos in, embeddings out, in memory."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch

from retina_fm._io.progress import progress_bar
from retina_fm.encoding.decoding import decoded, default_workers
from retina_fm.encoding.embedder import Embedder
from retina_fm.encoding.work import Decoded
from retina_fm.errors import ConfigError, SkippedPictures
from retina_fm.models import RetinalEncoder
from retina_fm.pictures import count, expand, is_single

logger = logging.getLogger("retina_fm")


def encode(
    photos: Any,
    model: str | RetinalEncoder = "fundus2video",
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "auto",
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool | None = None,
    compile: bool | None = None,  # noqa: A002  the word that torch and its users know
) -> np.ndarray:
    """Embeddings of photos, float32, in input order.

    Args:
        photos: one photo (path, bytes, file, PIL image, array, tensor, DICOM, dict) or many (folder, glob,
            iterable or generator of photos, ``(N, H, W, 3)`` array, ``(N, 3, H, W)`` tensor, a data set of
            Hugging Face or one of its columns).
        model: a name that ``retina_fm.load`` takes, or a loaded encoder, which keeps its device and type.
        batch_size: views a forward pass; chosen for the device without it.
        workers: decoding processes; chosen without it, 0 decodes in this process.
        device: the first GPU or the CPU without it.
        dtype: ``"auto"`` takes bfloat16 where the processor has it natively, and logs which.
        on_error: ``"skip"`` leaves photos out that cannot be read and warns once with
            ``SkippedPictures(indices, reasons)``.
        progress: a bar on standard error; None shows it on a terminal.
        compile: compile the encoder; None does so where many photos return the time.

    Returns:
        ``(D,)`` for one photo, ``(N, D)`` for many.

    Raises:
        PictureError: a photo cannot be read (``on_error="raise"``, or a single photo).
        UnknownModelError, WeightsNotFoundError, WeightsError: the model cannot be loaded.
    """
    if on_error not in ("raise", "skip"):
        raise ConfigError(f"on_error is {on_error!r}; use 'raise' or 'skip'.")
    if is_single(photos):
        photos, on_error, single = [photos], "raise", True
    else:
        single = False
    total = count(photos)
    embedder = Embedder(
        model, device=device, dtype=dtype, batch_size=batch_size, photos=total, compile=compile
    )
    logger.info("encoding with %s in %s", embedder.encoder.name, embedder.precision)
    if workers is None:
        workers = default_workers(total, embedder.device.type == "cuda")
    stream = decoded(
        enumerate(expand(photos)),
        embedder.encoder.transform,
        workers=workers,
        ahead=2 * embedder.batch_size + 2 * workers,
    )
    rows: list[np.ndarray] = []
    skipped: list[Decoded] = []
    with progress_bar(progress, total, f"encode, {embedder.precision.dtype}") as bar:
        for batch in batches(stream, embedder.batch_size):
            good = split_failures(batch, skipped, on_error)
            if good:
                rows.append(embedder(np.stack([item.view for item in good if item.view is not None])))
            bar.update(len(batch))
    if skipped:
        warnings.warn(
            SkippedPictures([item.position for item in skipped], [str(item.error) for item in skipped]),
            stacklevel=2,
        )
    width = embedder.encoder.num_features
    embeddings = np.concatenate(rows) if rows else np.empty((0, width), np.float32)
    return embeddings[0] if single else embeddings


def batches(stream: Iterator[Decoded], size: int) -> Iterator[list[Decoded]]:
    """Group by position, not by arrival, so that a batch always holds the same photos."""
    for _, group in itertools.groupby(stream, key=lambda item: item.position // size):
        yield list(group)


def split_failures(batch: list[Decoded], skipped: list[Decoded], on_error: str) -> list[Decoded]:
    """The photos of a batch that became views; the others are raised or noted in ``skipped``."""
    for item in batch:
        if item.error is not None:
            if on_error == "raise":
                raise item.error
            skipped.append(item)
    return [item for item in batch if item.error is None]
