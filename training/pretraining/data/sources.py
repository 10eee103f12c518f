"""One door to training data: prepared eyes and paired videos behind the same few questions."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from retina_fm._io.files import sha256_of
from retina_fm.errors import NoPicturesError
from retina_fm.network.levels import from_levels
from retina_fm.pictures import Transform
from retina_fm.training.pairs.opening import load_pair
from retina_fm.training.pairs.table import PairSequence, is_pairs, read_pairs, table_of
from retina_fm.training.pretraining.data.checks import DataReport, check_eyes, check_table
from retina_fm.training.pretraining.data.pair_samples import PairSamples
from retina_fm.training.pretraining.data.samples import RenderedSamples, list_eyes
from retina_fm.training.simulator.eyes.prepared import eye_metadata, load_eye
from retina_fm.training.simulator.rendering.render import render_batch
from retina_fm.vocabulary import TRAINED_ON

if TYPE_CHECKING:
    from retina_fm.training.pretraining.data.streams import Stream
    from retina_fm.training.pretraining.presets import Preset


def open_source(place: str | os.PathLike[str]) -> Source:
    """What lies at a place: a table of paired videos, or a folder that holds one, or else prepared eyes.

    Nothing is read yet, so that what is missing shows with the first question.
    """
    return PairSource(Path(place)) if is_pairs(place) else EyeSource(Path(place))


@dataclass(frozen=True)
class Photograph(ABC):
    """A photograph that training sees.

    Attributes:
        path: of its file, or of the eye that was prepared from it.
    """

    path: Path

    @abstractmethod
    def view(self, size: int) -> Tensor:
        """``(3, size, size)`` in [-1, 1], -1 outside the field of view."""

    @abstractmethod
    def identity(self) -> tuple[str, str]:
        """Name and SHA-256 of the photograph's own file."""


@dataclass(frozen=True)
class Source(ABC):
    """Training data at a place.

    Attributes:
        place: as it was named.
        has_vessels: whether it says where vessels lie.
    """

    place: Path
    has_vessels: ClassVar[bool]

    @property
    def name(self) -> str:
        """What people call it: the name of its folder, also for a ``pairs.csv``."""
        whole = self.place.absolute()
        return whole.parent.name if whole.name == "pairs.csv" else whole.name

    @abstractmethod
    def check(self) -> DataReport:
        """Every problem with its place."""

    @abstractmethod
    def stream(self, preset: Preset, *, seed: int, device: Any, resident: bool) -> Stream:
        """An endless stream of training samples."""

    @abstractmethod
    def photographs(self) -> Sequence[Photograph]:
        """All photographs that are trained on, in order; one may come twice."""

    @abstractmethod
    def held_back(self, size: int, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Photo ``(3, S, S)`` and twelve frames ``(12, S, S)`` of what is not trained on, in [-1, 1]."""


@dataclass(frozen=True)
class _PairPhoto(Photograph):
    def view(self, size: int) -> Tensor:
        transform = Transform(size=size)
        return torch.from_numpy(transform.normalise(transform.view(self.path)[0]))

    def identity(self) -> tuple[str, str]:
        return self.path.name, sha256_of(self.path)


@dataclass(frozen=True)
class PairSource(Source):
    """A table of paired videos; rows of split ``train``, or of none, are trained on."""

    has_vessels = False

    @property
    def table(self) -> Path:
        """The file."""
        return table_of(self.place)

    def check(self) -> DataReport:
        """Every problem, by row."""
        return check_table(self.table)

    def stream(
        self,
        preset: Preset,
        *,
        seed: int,
        device: Any,
        resident: bool,  # noqa: ARG002  # videos stay on disk
    ) -> PairSamples:
        """Samples of the sequences that are trained on."""
        return PairSamples(
            read_pairs(self.table, split=TRAINED_ON),
            size=preset.size,
            batch=preset.batch,
            seed=seed,
            steps=preset.video_steps,
            device=device,
        )

    def photographs(self) -> list[Photograph]:
        """Photos of the sequences that are trained on."""
        return [_PairPhoto(sequence.photo) for sequence in read_pairs(self.table, split=TRAINED_ON)]

    def held_back(self, size: int, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Sequences of split ``val``, else of any split but ``train``.

        Raises:
            NoPicturesError: all are trained on.
        """
        for sequence in self._left_out()[:limit]:
            photo, video, field = load_pair(sequence, size)
            view = from_levels(photo.transpose(2, 0, 1))
            frames = from_levels(video)
            yield torch.where(torch.from_numpy(field), view, -1.0), frames

    def _left_out(self) -> list[PairSequence]:
        others = [one for one in read_pairs(self.table) if one.part != TRAINED_ON]
        chosen = [one for one in others if one.part == "val"] or others
        if not chosen:
            raise NoPicturesError(
                f"{self.table} holds no sequences to validate on: rows of split train, or of none, are "
                "trained on. Write val into the column split of those to hold back."
            )
        return chosen


@dataclass(frozen=True)
class _EyePhoto(Photograph):
    def view(self, size: int) -> Tensor:
        maps = load_eye(self.path).maps
        photo = from_levels(maps[:3])[None]
        field = torch.from_numpy((maps[3] > 127).astype(np.float32))[None, None]
        return _resized(photo, 1 - field, size)[0]

    def identity(self) -> tuple[str, str]:
        about = eye_metadata(self.path)
        return str(about.get("source", self.path.name)), str(about.get("photo_sha256", ""))


@dataclass(frozen=True)
class EyeSource(Source):
    """A folder of prepared eyes; all of them are trained on."""

    has_vessels = True

    def check(self) -> DataReport:
        """Every problem, by file."""
        return check_eyes(self.place)

    def stream(self, preset: Preset, *, seed: int, device: Any, resident: bool) -> RenderedSamples:
        """Samples rendered from the eyes."""
        return RenderedSamples(
            self.place,
            batch=preset.batch,
            seed=seed,
            steps=preset.video_steps,
            device=device,
            resident=resident,
        )

    def photographs(self) -> list[Photograph]:
        """The eyes' photographs."""
        return [_EyePhoto(path) for path in list_eyes(self.place)]

    def held_back(self, size: int, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Angiograms rendered from the first eyes."""
        for number, path in enumerate(list_eyes(self.place)[:limit]):
            random = torch.Generator().manual_seed(number)
            rendered = render_batch([load_eye(path)], random, painting=0.5, augment=False, grain=0.3)
            photo, frames = (
                _resized(one, (one == -1).all(1, keepdim=True).float(), size)[0].clamp(-1, 1)
                for one in (rendered.photo, rendered.frames * 2 - 1)
            )
            yield photo, frames


def _resized(pictures: Tensor, outside: Tensor, size: int) -> Tensor:
    """Pictures in another size, -1 where ``outside`` is 1."""
    if pictures.shape[-1] != size:
        pictures = F.interpolate(pictures, (size, size), mode="bilinear", antialias=True, align_corners=False)
        outside = F.interpolate(outside, (size, size), mode="nearest")
    return torch.where(outside > 0.5, -1.0, pictures)


def check_data(place: str | os.PathLike[str]) -> DataReport:
    """Checks paired videos or a folder of prepared eyes, whichever ``place`` is.

    Raises:
        PictureError: the table cannot be read.
        ConfigError: the table has no column that it needs.
        NoPicturesError: neither a table nor prepared eyes are there.
    """
    return open_source(place).check()
