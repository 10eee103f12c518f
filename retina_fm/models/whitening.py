"""Whitening of embeddings for retrieval: fitted with the weights, shipped beside them, never part of a model.

Directions in which embeddings vary much drown those in which they vary little, and the little ones tell
patients apart. Whitening gives all of them the same weight. It helps retrieval and hurts linear probes, so
it is applied by an index and by nothing else.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as serialise

from retina_fm._io.tensor_files import header_of
from retina_fm.errors import ConfigError, WeightsError
from retina_fm.models.folder import (
    SIGNATURE,
    SOURCES,
    WeightsConfig,
    read_beside,
    read_config,
    whole_weights,
    write_config,
)
from retina_fm.models.folder import WHITENING as FILE

_KEYS = ("mean", "directions", "gains")
_CHUNK = 16_384
_WITHIN_SHARE = 0.3  # of the mean scatter, added to each direction's: chosen on persons of GRAPE left out


@dataclass(frozen=True)
class Whitening:
    """``x -> (x - mean) + directions.T @ (gains - 1) * (directions @ (x - mean))``.

    Directions that the fit saw no variance in keep the gain 1; the others get less. Its scale means nothing,
    for cosine does not see it.

    Attributes:
        mean: ``(D,)``.
        directions: ``(R, D)``, orthonormal.
        gains: ``(R,)``, in (0, 1] up to rounding.
    """

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    gains: NDArray[np.float32]

    def __post_init__(self) -> None:
        rank, width = self.directions.shape if self.directions.ndim == 2 else (-1, -1)
        if self.mean.shape != (width,) or self.gains.shape != (rank,):
            raise ConfigError(
                f"Whitening has mean {self.mean.shape}, directions {self.directions.shape} and gains "
                f"{self.gains.shape}; (D,), (R, D) and (R,) belong together."
            )
        if not all(np.isfinite(values).all() for values in (self.mean, self.directions, self.gains)):
            raise ConfigError("Whitening holds NaN or infinity; fit it again.")

    @property
    def dimension(self) -> int:
        """Length D of the embeddings that it takes."""
        return len(self.mean)

    def apply(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Whitened embeddings ``(N, D)``, float32.

        Raises:
            ConfigError: embeddings of another length.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dimension:
            raise ConfigError(
                f"Whitening takes embeddings (N, {self.dimension}), not {embeddings.shape}; "
                "it belongs to another model."
            )
        whitened = np.empty(embeddings.shape, np.float32)
        directions = self.directions.astype(np.float64)
        for start in range(0, len(embeddings), _CHUNK):
            # in float64, so that equal embeddings give equal points wherever they lie in a block
            centred = embeddings[start : start + _CHUNK].astype(np.float64) - self.mean
            shrunk = (centred @ directions.T) * (self.gains.astype(np.float64) - 1)
            whitened[start : start + len(centred)] = centred + shrunk @ directions
        return whitened


def fit_whitening(embeddings: NDArray[np.float32]) -> Whitening:
    """Whitening from the embeddings ``(M, D)`` of M >= 2 pictures.

    The covariance is shrunk towards a multiple of the identity by the share of Ledoit and Wolf (2004), so
    that fewer pictures than dimensions suffice and directions seen by chance are not blown up.

    Raises:
        ConfigError: fewer than two, not finite, or all the same.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    values = np.asarray(embeddings, np.float64)
    if values.ndim != 2 or len(values) < 2 or not np.isfinite(values).all():
        raise ConfigError(f"Whitening is fitted on finite embeddings (M >= 2, D), not on {values.shape}.")
    mean = values.mean(axis=0)
    centred = values - mean
    _, spread, right = np.linalg.svd(centred, full_matrices=False)
    variances = spread**2 / len(values)
    average = float(variances.sum()) / values.shape[1]
    if average <= 0:
        raise ConfigError("Whitening cannot be fitted on embeddings that are all the same.")
    share = float(ledoit_wolf_shrinkage(centred, assume_centered=True))
    share = max(share, 1e-3)
    kept = variances > 1e-9 * variances[0]
    floor = share * average
    gains = np.sqrt(floor / ((1 - share) * variances[kept] + floor))
    return _oriented(mean, right[kept], gains)


def fit_within_persons(embeddings: NDArray[np.float32], persons: Sequence[Hashable]) -> Whitening:
    """Whitening that takes away what differs between the pictures of one person: eye, visit, camera, light.

    The scatter within persons is whitened instead of the whole, as linear discriminant analysis does before
    it looks for directions; each direction's scatter is raised by 0.3 of the mean one.

    Args:
        embeddings: ``(M, D)``.
        persons: whose each is, M of them; persons with one picture count for the mean alone.

    Raises:
        ConfigError: not finite, other counts, or no two different embeddings of one person.
    """
    values = np.asarray(embeddings, np.float64)
    if values.ndim != 2 or len(values) != len(persons) or not np.isfinite(values).all():
        raise ConfigError(
            f"Whitening is fitted on finite embeddings (M, D) and M persons, not on {values.shape} "
            f"and {len(persons)}."
        )
    rows: dict[Hashable, list[int]] = {}
    for row, person in enumerate(persons):
        rows.setdefault(person, []).append(row)
    groups = [values[own] for own in rows.values() if len(own) > 1]
    apart = [group - group.mean(axis=0) for group in groups]
    freedom = sum(len(group) - 1 for group in groups)
    if not apart or not any(part.any() for part in apart):
        raise ConfigError("Whitening within persons needs two different embeddings of one person.")
    _, spread, right = np.linalg.svd(np.concatenate(apart), full_matrices=False)
    variances = spread**2 / freedom
    floor = _WITHIN_SHARE * float(variances.sum()) / values.shape[1]
    kept = variances > 1e-9 * variances[0]
    gains = np.sqrt(floor / (variances[kept] + floor))
    return _oriented(values.mean(axis=0), right[kept], gains)


def _oriented(
    mean: NDArray[np.float64], directions: NDArray[np.float64], gains: NDArray[np.float64]
) -> Whitening:
    """Directions whose largest part is positive: a decomposition leaves their signs open."""
    largest = np.abs(directions).argmax(axis=1)[:, None]
    signs = np.sign(np.take_along_axis(directions, largest, axis=1))
    return Whitening(
        mean.astype(np.float32), (directions * signs).astype(np.float32), gains.astype(np.float32)
    )


def save_whitening(folder: Path, whitening: Whitening) -> None:
    """Add whitening to a finished weights folder; its hash goes into ``config.json``, the weights' stays.

    Raises:
        ConfigError: it is no weights folder.
        OutputError: it holds what is not part of one.
    """
    config = read_config(folder)
    with whole_weights(folder) as scratch:
        for name in (*config.files, SIGNATURE, SOURCES):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, scratch / name)
        fill_whitening(scratch, config, whitening)


def fill_whitening(folder: Path, config: WeightsConfig, whitening: Whitening) -> WeightsConfig:
    """:func:`save_whitening` into a folder that is scratch itself.

    Returns:
        The configuration that was written.
    """
    data = serialise({key: np.ascontiguousarray(getattr(whitening, key)) for key in _KEYS})
    (folder / FILE).write_bytes(data)
    written = config.model_copy(update={"whitening": hashlib.sha256(data).hexdigest()})
    write_config(folder, written)
    return written


def read_whitening(folder: Path) -> Whitening | None:
    """The whitening of a weights folder, or None where it has none.

    Raises:
        WeightsError: the file is missing, changed or no safetensors file.
        ConfigError: its arrays do not belong together.
    """
    expected = read_config(folder).whitening
    if expected is None:
        return None
    path = folder / FILE
    data = read_beside(path, expected)
    try:
        header_of(data)
        arrays = parse_safetensors(data)
        return Whitening(*(arrays[key].astype(np.float32) for key in _KEYS))
    except (SafetensorError, KeyError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise WeightsError(f"{path} holds no whitening ({error}); fetch the folder again.") from None
