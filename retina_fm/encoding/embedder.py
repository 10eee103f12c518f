"""Views to embeddings on one device: number type, memory layout and compilation in one place."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retina_fm.encoding.precision import Precision, choose_device, choose_precision
from retina_fm.encoding.work import Decoded, views_of
from retina_fm.errors import ConfigError
from retina_fm.models import Model, by_name, load
from retina_fm.signatures import SignatureBasis

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
    return encoder.to(memory_format=fastest_layout(precision, place)), precision


def fastest_layout(precision: Precision, device: torch.device) -> torch.memory_format:
    """The memory format in which an encoder is fastest without losing what it computes."""
    # channels last is faster in bfloat16; in float32 on a CPU its normalisation is slow or imprecise
    exact = precision.dtype == torch.float32 and device.type == "cpu"
    return torch.contiguous_format if exact else torch.channels_last


class Embedder:
    """A loaded encoder, ready to embed batches of ``uint8`` views.

    Attributes:
        encoder: the model.
        precision: number type and why.
        batch_size: views that one call should get.

    Raises:
        ConfigError: batches of no photo, or a device or number type that cannot be used.
    """

    def __init__(
        self,
        model: Model,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
        batch_size: int | None = None,
        photos: int | None = None,
        compile: bool | None = None,  # noqa: A002  the word that torch and its users know
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ConfigError(f"Batches of {batch_size} photos hold none. Give 1 or more, or leave it out.")
        model = by_name(model)
        if isinstance(model, str):
            self.encoder: Any
            self.encoder, self.precision = load_fast(model, device=device, dtype=dtype)
            self.device = next(self.encoder.parameters()).device
        else:
            self.encoder = model  # a caller's own module stays on its device and in its type
            self.device = next(self.encoder.parameters()).device
            self.precision = Precision(self.encoder.dtype, "the type of the model that was passed")
        self.batch_size = _BATCH.get(self.device.type, 8) if batch_size is None else batch_size
        if compile is None:
            compile = photos is not None and photos >= _COMPILE_FROM.get(self.device.type, 1 << 62)  # noqa: A001
        self._embed: Callable[[Tensor], Any] = self.encoder.embed
        self._embed_with_vessels: Callable[[Tensor], Any] = getattr(
            self.encoder, "embed_with_vessels", self._embed
        )
        self.compiled = bool(compile)
        if compile:
            logger.info("compiling the encoder once for %s photos (about half a minute)", photos)
            self._embed = torch.compile(self._embed, dynamic=False)
            self._embed_with_vessels = torch.compile(self._embed_with_vessels, dynamic=False)
        transform = self.encoder.transform
        self._mean = torch.tensor(transform.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(transform.std, device=self.device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def __call__(self, views: np.ndarray) -> np.ndarray:
        """``uint8 (B, S, S, 3)`` to ``float32 (B, D)``.

        Raises:
            RuntimeError: out of memory; the message names the setting to lower.
        """
        return self._run(views, self._embed)[0]

    def check_signs(self) -> None:
        """Refuse an encoder that reads no signatures.

        Raises:
            ConfigError: it does not.
        """
        if not hasattr(self.encoder, "sign"):
            raise ConfigError(
                f"{self.encoder.name} reads no signatures: take a model of Fundus2Video, or signature=False."
            )

    @torch.inference_mode()
    def both(
        self, items: list[Decoded], basis: SignatureBasis | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings ``(B, D)`` and signatures ``(B, K)`` of decoded photos, out of one pass of the network.

        Args:
            items: all of which could be read.
            basis: of the signatures; the encoder's own without it.

        Raises:
            RuntimeError: out of memory; the message names the setting to lower.
        """
        views = views_of(items)
        fields = [item.geometry.mask_in_view() for item in items if item.geometry is not None]
        basis = self.encoder.signature_basis if basis is None else basis
        if not basis.needs_network:
            return self(views), self.encoder.sign(views, fields, basis=basis)
        embeddings, vessels = self._run(views, self._embed_with_vessels)
        return embeddings, self.encoder.sign(views, fields, vessels, basis)

    def _run(self, views: np.ndarray, forward: Callable[[Tensor], Any]) -> tuple[np.ndarray, Any]:
        """Embeddings, and what else a forward pass gives."""
        count = len(views)
        if self.compiled and count < self.batch_size:  # one shape, so that it is compiled once
            views = np.concatenate([views, np.repeat(views[-1:], self.batch_size - count, axis=0)])
        try:
            found = forward(self.prepared(views))
            pooled, *rest = found if isinstance(found, tuple) else (found,)
            embeddings = pooled[:count].float().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise torch.OutOfMemoryError(
                f"Out of memory with batches of {self.batch_size} on {self.device}; lower batch_size."
            ) from error
        if not np.isfinite(embeddings).all():
            raise FloatingPointError(
                f"{self.encoder.name} gave NaN or infinity in {self.precision}; try dtype='float32'."
            )
        return np.ascontiguousarray(embeddings), rest[0][:count] if rest else None

    def prepared(self, views: np.ndarray) -> Tensor:
        """``uint8 (B, S, S, 3)`` to what the encoder takes, on its device and in its type."""
        pixels = torch.from_numpy(views).to(self.device).permute(0, 3, 1, 2)
        scaled = (pixels.float() / 255 - self._mean) / self._std
        layout = fastest_layout(self.precision, self.device)
        return scaled.to(self.precision.dtype).contiguous(memory_format=layout)
