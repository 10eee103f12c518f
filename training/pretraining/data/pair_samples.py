"""Training samples from paired videos on disk: views, common field of view, synchronous augmentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor

from retina_fm.errors import ConfigError
from retina_fm.pictures import Geometry, Transform, read_picture
from retina_fm.pictures.geometry import crop_and_resize
from retina_fm.training.pairs.table import Frame, PairSequence, choose_frames
from retina_fm.training.pretraining.data.samples import (
    Samples,
    draw_steps,
    names_hash,
    needed_frames,
    pass_order,
    refuse_another_stream,
    seed_of,
    view_samples,
)
from retina_fm.training.simulator.rendering.camera import degrade_photo
from retina_fm.training.simulator.rendering.counter_noise import gaussian_noise
from retina_fm.training.simulator.rendering.eye_batch import Window
from retina_fm.training.simulator.rendering.parameters import draw_parameters
from retina_fm.vocabulary import FRAMES_A_VIDEO


def warp_frame(
    frame: NDArray[np.float32], transform: Sequence[float], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """A frame in the photo's pixels.

    Args:
        frame: float32 (h, w).
        transform: a b c d e f with photo x = a x + b y + c, photo y = d x + e y + f, pixel centres at
            half-integers.
        shape: (H, W) of the photo.
    """
    a, b, c, d, e, f = transform
    back = np.linalg.inv(np.array([[e, d], [b, a]]))  # rows and columns are (y, x)
    # Pixel centres lie at half-integers: photo index p stands for p + 0.5.
    offset = back @ (np.array([0.5, 0.5]) - np.array([f, c])) - 0.5
    return np.asarray(
        ndimage.affine_transform(frame, back, offset, shape, order=1, mode="constant"), np.float32
    )


@dataclass(frozen=True)
class PairView:
    """Where the view of a sequence lies, found once: what makes a sequence slow to open.

    Attributes:
        geometry: of the photo's view.
        packed: the common field of view of photo and twelve frames, eight pixels a byte.
    """

    geometry: Geometry
    packed: bytes

    @property
    def field(self) -> NDArray[np.bool_]:
        """The field of view, bool (S, S)."""
        size = self.geometry.size
        bits = np.unpackbits(np.frombuffer(self.packed, np.uint8), count=size * size)
        return bits.reshape(size, size).astype(bool)


def open_pair(sequence: PairSequence, size: int) -> PairView:
    """Fits the field of view of a sequence and finds what photo and all twelve frames have in common.

    Raises:
        PictureError: a file cannot be read.
    """
    view, geometry = Transform(size=size).view(sequence.photo)
    field = ndimage.binary_fill_holes(ndimage.binary_opening(view.max(2) > 8, iterations=2))
    lit = np.zeros((size, size), bool)
    for frame in choose_frames(sequence):
        # before the dye comes a frame is dark: any frame shows the aperture, each must reach as far
        lit |= _frame_view(frame, geometry) > 4
        field &= _reached(frame, geometry)
    lit = ndimage.binary_closing(np.pad(lit, 8), iterations=4)[8:-8, 8:-8]
    return PairView(geometry, np.packbits(field & lit).tobytes())


def _reached(frame: Frame, geometry: Geometry) -> NDArray[np.bool_]:
    """Where a frame has pixels at all, bool (S, S): one that was moved onto the photo leaves a strip."""
    if frame.transform is None:
        return np.ones((geometry.size, geometry.size), bool)
    whole = np.ones(read_picture(frame.path).shape[:2], np.float32)
    warped = warp_frame(whole, frame.transform, (geometry.height, geometry.width))
    filled = Image.fromarray(np.where(warped > 0.99, 255, 0).astype(np.uint8))
    # what lies beyond the photo is for the photo's own field to tell
    return np.asarray(crop_and_resize(filled, geometry, "bilinear")) > 127


def load_pair(
    sequence: PairSequence,
    size: int,
    frames: Sequence[int] | None = None,
    known: PairView | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    """A sequence in its view.

    Args:
        sequence: as read from ``pairs.csv``.
        size: side S of the view.
        frames: which of the twelve; all when None.
        known: where the view lies, if the sequence was opened before.

    Returns:
        photo uint8 (S, S, 3), frames uint8 (K, S, S), and their common field of view, bool (S, S).

    Raises:
        PictureError: a file cannot be read.
    """
    known = known or open_pair(sequence, size)
    field = known.field
    photo = Image.fromarray(read_picture(sequence.photo))
    view = np.asarray(crop_and_resize(photo, known.geometry, Transform(size=size).resample))
    chosen = choose_frames(sequence)
    numbers = list(range(FRAMES_A_VIDEO)) if frames is None else list(frames)
    done = {number: _frame_view(chosen[number], known.geometry) for number in sorted(set(numbers))}
    stacked = np.stack([done[n] for n in numbers]) * field
    return view * field[..., None].astype(np.uint8), stacked.astype(np.uint8), field


def _frame_view(frame: Frame, geometry: Geometry) -> NDArray[np.uint8]:
    grey = read_picture(frame.path)[..., 1]  # angiograms are grey, so one channel is all of them
    if frame.transform is not None:
        warped = warp_frame(grey.astype(np.float32), frame.transform, (geometry.height, geometry.width))
        grey = np.clip(np.rint(warped), 0, 255).astype(np.uint8)
    return np.asarray(crop_and_resize(Image.fromarray(grey), geometry, "bilinear"))


def augment_pairs(
    photo: Tensor,
    frames: Tensor,
    field: Tensor,
    generator: torch.Generator,
    *,
    crop: int | None = None,
    augment: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Crops, turns, flips and scales photo and frames alike; colour for the photo, gain and noise for frames.

    Args:
        photo: float32 (B, 3, S, S) in [0, 1].
        frames: float32 (B, K, S, S) in [0, 1].
        field: float32 (B, 1, S, S), 0 or 1.
        generator: on the CPU.
        crop: side of the window; the whole view when None.
        augment: False keeps all as it is, and takes the middle of the view where a crop is asked for.

    Returns:
        photo (B, 3, H, W) in [-1, 1] with -1 outside, frames (B, K, H, W) in [0, 1], field (B, 1, H, W).
    """
    batch, _, size, _ = photo.shape
    side = crop or size
    p = draw_parameters(generator, batch, size=size, crop=crop, painting=0.0, augment=augment).to(
        photo.device
    )
    reach = side / p["frame_size"] if augment else torch.full((batch,), side / size, device=photo.device)
    flip = 1.0 - 2.0 * p["flip"].float()
    cos, sin = torch.cos(p["angle"]) * reach, torch.sin(p["angle"]) * reach
    linear = torch.stack([torch.stack([cos * flip, -sin], 1), torch.stack([sin * flip, cos], 1)], 1)
    theta = torch.cat([linear, p["centre"].unsqueeze(2)], 2)
    together = torch.cat([photo, frames, field], 1)
    if augment or side != size:
        grid = F.affine_grid(theta, [batch, 1, side, side], align_corners=False)
        together = F.grid_sample(together, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    photo, frames = together[:, :3], together[:, 3:-1]
    field = (together[:, -1:] > 0.5).float()
    if augment:
        window = Window({"field_of_view": field}, photo, None, p["frame_size"], theta)
        photo = degrade_photo(photo, window, p)
        gain = torch.exp(0.5 * torch.log(p["gain"][:, :1])).clamp(0.7, 1.4).view(-1, 1, 1, 1)
        noise = torch.cat(
            [gaussian_noise(p["noise_seed"] + 31 * k, side, side) for k in range(frames.shape[1])], 1
        )
        frames = (frames * gain + 0.3 * p["noise"].view(-1, 1, 1, 1) * noise).clamp(0, 1)
    return torch.where(field > 0, photo * 2 - 1, -1.0), frames * field, field


class PairSamples:
    """An endless stream of samples from paired videos, with the interface of ``RenderedSamples``.

    Batch n depends on the seed and n alone, so a stream resumes exactly.

    Args:
        sequences: from ``read_pairs``.
        size: side of the view.
        crop: side of the window; the whole view when None.
        batch: samples a batch.
        seed: of the stream.
        steps: which steps to draw from; all ten when None.
        augment: False gives photos and frames as they are.
        device: where the samples go.
    """

    def __init__(
        self,
        sequences: Sequence[PairSequence],
        *,
        size: int = 512,
        crop: int | None = 256,
        batch: int = 8,
        seed: int = 0,
        steps: Sequence[int] | None = None,
        augment: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        if not sequences:
            raise ConfigError("There are no sequences to draw samples from. Check pairs.csv and the split.")
        self.sequences, self.size, self.crop, self.batch = list(sequences), size, crop, batch
        self.seed, self.steps, self.augment, self.device = seed, steps, augment, torch.device(device)
        self.index = 0
        self._opened: dict[int, PairView] = {}  # 32 kB a sequence of 512 pixels

    def _load(self, number: int, frames: list[int]) -> tuple[NDArray[Any], ...]:
        sequence = self.sequences[number]
        if number not in self._opened:
            self._opened[number] = open_pair(sequence, self.size)
        return load_pair(sequence, self.size, frames, self._opened[number])

    def batch_at(self, index: int) -> Samples:
        """Batch number ``index``, whatever came before."""
        numbers = pass_order(self.seed, index, self.batch, len(self.sequences))
        generator = torch.Generator().manual_seed(seed_of(self.seed, 2, index))
        step = draw_steps(generator, self.batch, self.steps)
        needed = needed_frames(step).tolist()
        loaded = [self._load(n, needed[i]) for i, n in enumerate(numbers)]
        photo, frames, field = (torch.from_numpy(np.stack([item[k] for item in loaded])) for k in range(3))
        view, grey, inside = augment_pairs(
            photo.permute(0, 3, 1, 2).float().div(255).to(self.device),
            frames.float().div(255).to(self.device),
            field.float().unsqueeze(1).to(self.device),
            generator,
            crop=self.crop,
            augment=self.augment,
        )
        return view_samples(view, grey, inside, step.to(self.device))

    def __iter__(self) -> Iterator[Samples]:
        return self

    def __next__(self) -> Samples:
        samples = self.batch_at(self.index)
        self.index += 1
        return samples

    def state_dict(self) -> dict[str, Any]:
        """What is needed to continue exactly, as JSON values."""
        files = (path.name for s in self.sequences for path in (s.photo, *(f.path for f in s.frames)))
        return {
            "seed": self.seed,
            "index": self.index,
            "batch": self.batch,
            "sequences": len(self.sequences),
            "data": names_hash(files),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where ``state_dict`` was taken.

        Raises:
            ConfigError: other sequences or another batch size.
        """
        refuse_another_stream(state, self.state_dict())
        self.seed, self.index = int(state["seed"]), int(state["index"])
