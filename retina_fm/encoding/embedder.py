"""Views to embeddings on one device: number type, memory layout and compilation in one place."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retina_fm.encoding.precision import Precision, choose_device, choose_precision
from retina_fm.models import RetinalEncoder, load

logger = logging.getLogger("retina_fm")

_COMPILE_FROM = {"cpu": 5000, "cuda": 3000}
"""Photos from which compiling returns its half minute (a CPU gains about a twentieth of the forward)."""
_BATCH = {"cpu": 4, "cuda": 32}


def load_fast(
    name: str, *, device: str | torch.device | None = None, dtype: str | torch.dtype = "auto"
) -> tuple[Any, Precision]:
    """An encoder by name on the first GPU or the CPU, in the fastest number type and layout for it.

    Args:
        name: as :func:`retina_fm.load` takes it.
        device: as for :func:`retina_fm.encode`.
        dtype: as for :func:`retina_fm.encode`.

    Returns:
        The encoder, and its number type with the reason.
    """
    place = choose_device(device)
    precision = choose_precision(dtype, place)
    encoder: Any = load(name, device=place, dtype=precision.dtype)
    return encoder.to(memory_format=_layout(precision, place)), precision


def _layout(precision: Precision, device: torch.device) -> torch.memory_format:
    # channels last is faster in bfloat16; in float32 on a CPU its normalisation is slow or imprecise
    exact = precision.dtype == torch.float32 and device.type == "cpu"
    return torch.contiguous_format if exact else torch.channels_last


class Embedder:
    """A loaded encoder, ready to embed batches of ``uint8`` views.

    Attributes:
        encoder: the model.
        precision: number type and why.
        batch_size: views that one call should get.
    """

    def __init__(
        self,
        model: str | RetinalEncoder,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
        batch_size: int | None = None,
        photos: int | None = None,
        compile: bool | None = None,  # noqa: A002  the word that torch and its users know
    ) -> None:
        if isinstance(model, str):
            self.encoder: Any
            self.encoder, self.precision = load_fast(model, device=device, dtype=dtype)
            self.device = next(self.encoder.parameters()).device
        else:
            self.encoder = model  # a caller's own module stays on its device and in its type
            self.device = next(self.encoder.parameters()).device
            self.precision = Precision(self.encoder.dtype, "the type of the model that was passed")
        self.batch_size = batch_size or _BATCH.get(self.device.type, 8)
        if compile is None:
            compile = photos is not None and photos >= _COMPILE_FROM.get(self.device.type, 1 << 62)  # noqa: A001
        self._embed: Callable[[Tensor], Tensor] = self.encoder.embed
        self.compiled = bool(compile)
        if compile:
            logger.info("compiling the encoder once for %s photos (about half a minute)", photos)
            self._embed = torch.compile(self.encoder.embed, dynamic=False)
        transform = self.encoder.transform
        self._mean = torch.tensor(transform.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(transform.std, device=self.device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def __call__(self, views: np.ndarray) -> np.ndarray:
        """``uint8 (B, S, S, 3)`` to ``float32 (B, D)``.

        Raises:
            RuntimeError: out of memory; the message names the setting to lower.
        """
        count = len(views)
        if self.compiled and count < self.batch_size:  # one shape, so that it is compiled once
            views = np.concatenate([views, np.repeat(views[-1:], self.batch_size - count, axis=0)])
        try:
            embeddings = self._embed(self.prepared(views))[:count].float().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise torch.OutOfMemoryError(
                f"Out of memory with batches of {self.batch_size} on {self.device}; lower batch_size."
            ) from error
        if not np.isfinite(embeddings).all():
            raise FloatingPointError(
                f"{self.encoder.name} gave NaN or infinity in {self.precision}; try dtype='float32'."
            )
        return np.ascontiguousarray(embeddings)

    def prepared(self, views: np.ndarray) -> Tensor:
        """``uint8 (B, S, S, 3)`` to what the encoder takes, on its device and in its type."""
        pixels = torch.from_numpy(views).to(self.device).permute(0, 3, 1, 2)
        scaled = (pixels.float() / 255 - self._mean) / self._std
        layout = _layout(self.precision, self.device)
        return scaled.to(self.precision.dtype).contiguous(memory_format=layout)
