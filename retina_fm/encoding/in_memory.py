"""``encode``: photos in, embeddings out, in memory."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from retina_fm._io.progress import progress_bar
from retina_fm.encoding.decoding import chosen_workers, decoded
from retina_fm.encoding.embedder import Embedder
from retina_fm.encoding.work import Decoded
from retina_fm.errors import ConfigError, SkippedPictures
from retina_fm.models import Model
from retina_fm.pictures import Transform, count, expand, is_single

logger = logging.getLogger("retina_fm")

Made = TypeVar("Made")


def encode(
    photos: Any,
    model: Model = "fundus2video",
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
        model: a name or folder that ``retina_fm.load`` takes, or a loaded encoder, which keeps its device and
            type.
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
        ConfigError: batches of no photo, fewer workers than none, or a device that cannot be used.
    """
    check_on_error(on_error)
    single = is_single(photos)
    total = count(photos)
    embedder = Embedder(
        model, device=device, dtype=dtype, batch_size=batch_size, photos=total, compile=compile
    )
    logger.info("encoding with %s in %s", embedder.encoder.name, embedder.precision)
    rows = over_batches(
        photos,
        lambda items, _: embedder(np.stack([item.view for item in items if item.view is not None])),
        embedder.encoder.transform,
        batch_size=embedder.batch_size,
        workers=chosen_workers(workers, total, embedder.device.type == "cuda"),
        on_error=on_error,
        bar=progress_bar(progress, total, f"encode, {embedder.precision.name}"),
    )
    width = embedder.encoder.num_features
    embeddings = np.concatenate(rows) if rows else np.empty((0, width), np.float32)
    return embeddings[0] if single else embeddings


def over_batches(
    photos: Any,
    work: Callable[[list[Decoded], list[Any]], Made],
    transform: Transform,
    *,
    batch_size: int,
    workers: int,
    on_error: str,
    bar: Any,
) -> list[Made]:
    """What ``work`` makes of each batch of decoded photos, in order.

    Args:
        photos: one or many; one that cannot be read is raised whatever ``on_error`` says.
        work: takes photos that became views, and the photos themselves.
        transform: photo to view.
        batch_size: views that ``work`` gets.
        workers: decoding processes.
        on_error: ``"raise"`` or ``"skip"``, which warns once.
        bar: of progress.

    Raises:
        PictureError: a photo cannot be read.
    """
    if is_single(photos):
        photos, on_error = [photos], "raise"
    under_way: dict[int, Any] = {}

    def noted() -> Iterator[tuple[int, Any]]:
        for position, photo in enumerate(expand(photos)):
            under_way[position] = photo
            yield position, photo

    stream = decoded(noted(), transform, workers=workers, ahead=2 * batch_size + 2 * workers)
    made: list[Made] = []
    skipped: list[Decoded] = []
    with bar:
        for batch in batches(stream, batch_size):
            good = split_failures(batch, skipped, on_error)
            given = {item.position: under_way.pop(item.position) for item in batch}
            if good:
                made.append(work(good, [given[item.position] for item in good]))
            bar.update(len(batch))
    if skipped:
        warnings.warn(
            SkippedPictures([item.position for item in skipped], [str(item.error) for item in skipped]),
            stacklevel=3,
        )
    return made


def check_on_error(on_error: str) -> None:
    """Raises ConfigError where it is no word for what to do with photos that cannot be read."""
    if on_error not in ("raise", "skip"):
        raise ConfigError(f"on_error is {on_error!r}; use 'raise' or 'skip'.")


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
