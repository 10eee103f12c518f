"""Encoders that read signatures, and the basis of signatures that ships beside their weights."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from retina_fm.errors import ConfigError
from retina_fm.models.folder import (
    CONFIG,
    SIGNATURE,
    SOURCES,
    WHITENING,
    read_beside,
    read_config,
    whole_weights,
    write_config,
)
from retina_fm.pictures import Transform, expand, is_single
from retina_fm.signatures import Network, SignatureBasis, default_basis, inverted, signatures_of
from retina_fm.signatures.vessel_maps import SIDE

_BATCH = 4


class Signing:
    """What an encoder needs to read signatures; its basis is the one beside its weights, else that of lines.

    Attributes:
        signature_basis: what a signature keeps and what its cosines mean.
    """

    transform: Transform
    signature_basis: SignatureBasis

    def signature(self, photos: Any) -> NDArray[np.float32]:
        """The pattern of vessels of photos, as rows of length one: pictures of one eye have a high cosine.

        A signature recognises a person; keep it as you would a fingerprint. Compare signatures of one
        basis (``signature_basis.hash``) alone.

        Args:
            photos: one photo or many, as :func:`retina_fm.encode` takes them: in colour, red-free, or frames
                of an angiogram.

        Returns:
            float32 ``(K,)`` for one, ``(N, K)`` for many; zeros where no retina is seen.

        Raises:
            PictureError: a photo cannot be read.
        """
        single, rows = is_single(photos), [np.empty((0, self.signature_basis.length), np.float32)]
        found = iter([photos] if single else expand(photos))
        while batch := [self.transform.view(photo) for _, photo in zip(range(_BATCH), found, strict=False)]:
            views = np.stack([view for view, _ in batch])
            rows.append(self.sign(views, [geometry.mask_in_view() for _, geometry in batch]))
        joined = np.concatenate(rows)
        return joined[0] if single else joined

    def sign(
        self,
        views: NDArray[np.uint8],
        fields: list[NDArray[np.bool_]] | None = None,
        vessels: Tensor | None = None,
        basis: SignatureBasis | None = None,
    ) -> NDArray[np.float32]:
        """Signatures ``(N, K)`` of views ``uint8 (N, S, S, 3)``.

        Args:
            views: as the transform gives them.
            fields: of view, each bool ``(S, S)``; where a view is not black without it.
            vessels: probabilities ``(N, H, W)`` of these views, where they are at hand.
            basis: another one than the encoder's own.
        """
        basis = self.signature_basis if basis is None else basis
        network = vessel_maps_of(self, vessels) if check_basis(basis, self).needs_network else None
        return signatures_of(views, basis, fields, network)


def vessel_maps_of(encoder: Any, known: Tensor | None = None) -> Network:
    """An encoder's vessel maps as signatures take them; what has bright vessels is shown to it inverted.

    Args:
        encoder: with a vessel map.
        known: probabilities ``(N, H, W)`` of the views that will be asked for, as they are.
    """

    @torch.inference_mode()
    def vessels(views: NDArray[np.uint8]) -> NDArray[np.float32]:
        place = next(encoder.parameters())
        scaled = torch.from_numpy(encoder.transform.normalise(views)).to(place.device, place.dtype)
        return _at_side(encoder.vessels_at_stride_2(scaled))

    def network(views: NDArray[np.uint8], bright: NDArray[np.bool_]) -> NDArray[np.floating]:
        maps = np.empty((len(views), SIDE, SIDE), np.float32)
        dark = ~bright
        if known is not None:
            maps[dark] = _at_side(known)[dark]
        elif dark.any():
            maps[dark] = vessels(views[dark])
        if bright.any():
            maps[bright] = vessels(inverted(views[bright]))
        return maps

    return network


def _at_side(vessels: Tensor) -> NDArray[np.float32]:
    maps = vessels.float()[:, None]
    if maps.shape[-1] != SIDE:
        maps = F.interpolate(maps, size=(SIDE, SIDE), mode="area" if maps.shape[-1] > SIDE else "bilinear")
    return np.asarray(maps[:, 0].cpu().numpy(), np.float32)


def save_signature_basis(folder: Path, basis: SignatureBasis) -> None:
    """Add a basis to a finished weights folder; its hash goes into ``config.json``, the weights' stays."""
    data, config = basis.to_bytes(), read_config(folder)
    with whole_weights(folder) as scratch:
        for name in (*config.files, WHITENING, SOURCES):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, scratch / name)
        (scratch / SIGNATURE).write_bytes(data)
        write_config(scratch, config.model_copy(update={"signature": hashlib.sha256(data).hexdigest()}))


def read_signature_basis(folder: Path) -> SignatureBasis:
    """The basis of a weights folder, or that of lines alone where it has none.

    Raises:
        WeightsError: the file is missing, changed, or holds something else.
    """
    expected = read_config(folder).signature
    if expected is None:
        return default_basis()
    path = folder / SIGNATURE
    data = read_beside(path, expected)
    return SignatureBasis.from_bytes(data, str(path))


def check_basis(basis: SignatureBasis, encoder: Any) -> SignatureBasis:
    """The basis, if the encoder can give what it needs.

    Raises:
        ConfigError: it needs a vessel map and the encoder has none.
    """
    if basis.needs_network and not getattr(encoder, "sees_vessels", False):
        raise ConfigError(
            f"The basis of signatures of {encoder.name} needs a vessel map, which these weights lack; take "
            f"{SIGNATURE} and its line in {CONFIG} out of the folder."
        )
    return basis


__all__ = ["Signing", "check_basis", "read_signature_basis", "save_signature_basis"]
