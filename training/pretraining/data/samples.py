"""Training samples of the autoregressive video model, and an endless stream of them that resumes exactly."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retina_fm.errors import ConfigError, NoPicturesError
from retina_fm.training.pretraining.data.streams import Stream, StreamSettings
from retina_fm.training.simulator.eyes.prepared import PreparedEye, load_eye
from retina_fm.training.simulator.rendering.eye_batch import EyeBatch, stack_eyes
from retina_fm.training.simulator.rendering.render import MASK_THRESHOLD, Rendered, render_batch
from retina_fm.vocabulary import FRAMES_A_VIDEO, STEPS_A_VIDEO

_FOVEA = 0.7  # of the map of the macula, whose peak is 1


@dataclass(frozen=True)
class Samples:
    """One batch of training samples; frames and photo in [-1, 1], -1 outside the field of view.

    Attributes:
        photo: float32 (B, 3, H, W).
        last: float32 (B, 3, H, W), the three frames before, or the photo at step 0.
        target: float32 (B, 3, H, W), the three frames to predict.
        mask: float32 (B, 1, H, W), the knowledge mask.
        field_of_view: float32 (B, 1, H, W).
        lesions: float32 (B, L, H, W) in [0, 1], or None for pairs without lesion maps.
        lesion_known: bool (B,), True where pixels without a lesion are certainly without; or None.
        step: int64 (B,), 0 to 9.
        vessels: coverage, float32 (B, 1, H, W) in [0, 1], or None for pairs without vessel maps.
        sure: float32 (B, 1, H, W), 0 outside the field of view and where nobody knows whether there are
            vessels: frames and vessel map are compared where it is 1. The field of view where None.
        anatomy: float32 (B, 4, H, W) in [0, 1] in the order of ``ANATOMY``, or None for pairs.
    """

    photo: Tensor
    last: Tensor
    target: Tensor
    mask: Tensor
    field_of_view: Tensor
    lesions: Tensor | None
    lesion_known: Tensor | None
    step: Tensor
    vessels: Tensor | None = None
    sure: Tensor | None = None
    anatomy: Tensor | None = None

    def __len__(self) -> int:
        return int(self.photo.shape[0])

    def to(self, device: torch.device | str) -> Samples:
        """The same samples on another device."""
        moved: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            moved[item.name] = None if value is None else value.to(device, non_blocking=True)
        return Samples(**moved)


def draw_steps(generator: torch.Generator, batch: int, steps: Sequence[int] | None = None) -> Tensor:
    """Steps, int64 (B,): uniform over 0 to 9, or over ``steps``."""
    allowed = torch.tensor(list(range(STEPS_A_VIDEO) if steps is None else steps))
    return allowed[torch.randint(0, len(allowed), (batch,), generator=generator)]


def _assemble(
    photo: Tensor,
    last: Tensor,
    target: Tensor,
    step: Tensor,
    field: Tensor,
    mask: Tensor,
    lesions: Tensor | None,
    lesion_known: Tensor | None,
    vessels: Tensor | None = None,
    sure: Tensor | None = None,
    anatomy: Tensor | None = None,
) -> Samples:
    inside = field > 0.5
    last, target = (torch.where(inside, grey * 2 - 1, -1.0) for grey in (last, target))
    first = (step == 0).view(-1, 1, 1, 1)
    return Samples(
        photo=photo,
        last=torch.where(first, photo, last),
        target=target,
        mask=mask,
        field_of_view=field,
        lesions=lesions,
        lesion_known=lesion_known,
        step=step,
        vessels=vessels,
        sure=sure,
        anatomy=anatomy,
    )


def samples_of(rendered: Rendered, step: Tensor) -> Samples:
    """Samples from frames rendered at ``needed_frames(step)``."""
    return view_samples(
        rendered.photo,
        rendered.frames,
        rendered.field_of_view,
        step,
        lesions=rendered.lesions,
        lesion_known=rendered.lesion_known.all(1),
        vessels=(rendered.compartments["artery"] + rendered.compartments["vein"]).clamp(0, 1),
        sure=rendered.sure,
        anatomy=anatomy_of(rendered),
    )


def anatomy_of(rendered: Rendered) -> Tensor:
    """Arteries, veins, disc and fovea, (B, 4, H, W) in [0, 1]; the fovea is a spot half a disc wide.

    Where nobody drew them they are estimates: arteries and veins share a vessel by probability. Most are
    right, and a network learns from the many.
    """
    parts = rendered.compartments
    fovea = ((parts["macula"] - _FOVEA) / (1 - _FOVEA)).clamp(0, 1)
    return torch.cat([parts["artery"], parts["vein"], parts["disc"], fovea], 1).clamp(0, 1)


def view_samples(
    photo: Tensor,
    frames: Tensor,
    field_of_view: Tensor,
    step: Tensor,
    *,
    lesions: Tensor | None = None,
    lesion_known: Tensor | None = None,
    vessels: Tensor | None = None,
    sure: Tensor | None = None,
    anatomy: Tensor | None = None,
) -> Samples:
    """Samples from the six frames (B, 6, H, W) that ``needed_frames(step)`` names."""
    mask = ((frames[:, :1] - frames[:, 5:]).abs() > MASK_THRESHOLD).float() * field_of_view
    # Columns 1 to 4 are t - 1 to t + 2; at step 0, column 1 stands in and is not used.
    last, target = frames[:, 1:4], frames[:, 2:5]
    return _assemble(
        photo,
        last,
        target,
        step,
        field_of_view,
        mask,
        lesions,
        lesion_known,
        vessels,
        sure,
        anatomy,
    )


def needed_frames(step: Tensor) -> Tensor:
    """Frames that samples at ``step`` (B,) need, int64 (B, 6): 0, t - 1 to t + 2, 11."""
    middle = (step.unsqueeze(1) + torch.arange(-1, 3)).clamp(min=0)
    ends = torch.tensor([0, FRAMES_A_VIDEO - 1]).expand(len(step), 2)
    return torch.cat([ends[:, :1], middle, ends[:, 1:]], 1)


def render_samples(
    eyes: EyeBatch | Sequence[PreparedEye],
    generator: torch.Generator,
    *,
    crop: int | None = None,
    lesions: bool = True,
    painting: float = 0.5,
    steps: Sequence[int] | None = None,
    grain: float = 1.0,
    poor: float = 0.0,
    device: torch.device | str | None = None,
) -> Samples:
    """Renders one sample an eye, and only the six frames that it needs of twelve.

    Args:
        eyes: prepared eyes of one size.
        generator: on the CPU; the only source of randomness.
        crop: side of the window in pixels; the whole view when None.
        lesions: False renders vessels alone.
        painting: probability that lesions are painted.
        steps: which steps to draw from; all ten when None.
        grain: factor on the frames' noise; 1 is as noisy as real frames.
        poor: probability that a photo is degraded as clinics' poor photographs are.
        device: where to render; the eyes' own when None.
    """
    step = draw_steps(generator, len(eyes), steps)
    rendered = render_batch(
        eyes,
        generator,
        crop=crop,
        frames=needed_frames(step),
        lesions=lesions,
        painting=painting,
        grain=grain,
        poor=poor,
        device=device,
    )
    return samples_of(rendered, step.to(rendered.frames.device))


def list_eyes(folder: str | Path) -> list[Path]:
    """Prepared eyes below a folder, sorted.

    Raises:
        NoPicturesError: there is none.
    """
    paths = sorted(Path(folder).rglob("*.eye.safetensors"))
    if not paths:
        raise NoPicturesError(
            f"{folder} holds no prepared eyes. Photographs are prepared into a folder of their own: "
            "retina-fm prepare PHOTOS --out EYES, then --data EYES."
        )
    return paths


class RenderedSamples(Stream):
    """An endless stream of rendered batches.

    Args:
        eyes: a folder of prepared eyes, their paths, or eyes in memory.
        crop: side of the window in pixels; the whole view when None.
        batch: samples a batch.
        seed: of the stream.
        lesions: False renders vessels alone.
        painting: probability that lesions are painted.
        steps: which steps to draw from.
        grain: factor on the frames' noise. Grain cannot be predicted, so targets have less of it than real
            frames have.
        poor: probability that a photo is degraded as clinics' poor photographs are.
        device: where to render.
        keep: how many eyes stay in memory (about 14 MB each at 512 pixels; a run has a stream a source).
        resident: keep all eyes as one batch on the device (about 4 MB an eye at 512 pixels).
    """

    __slots__ = ("_cache", "_resident", "eyes", "grain", "keep")
    counted = "eyes"

    def __init__(
        self,
        eyes: str | Path | Sequence[str | Path | PreparedEye],
        *,
        crop: int | None = 256,
        batch: int = 8,
        seed: int = 0,
        lesions: bool = True,
        painting: float = 0.5,
        steps: Sequence[int] | None = None,
        grain: float = 0.3,
        poor: float = 0.0,
        device: torch.device | str = "cpu",
        keep: int = 64,
        resident: bool = False,
    ) -> None:
        settings = StreamSettings(crop=crop, lesions=lesions, painting=painting, poor=poor)
        super().__init__(batch=batch, seed=seed, steps=steps, device=device, settings=settings)
        self.eyes: list[Path | PreparedEye] = (
            list(list_eyes(eyes))
            if isinstance(eyes, (str, Path))
            else [eye if isinstance(eye, PreparedEye) else Path(eye) for eye in eyes]
        )
        if not self.eyes:
            raise ConfigError(
                "A stream of samples needs at least one eye. Prepare some with: retina-fm prepare"
            )
        self.grain, self.keep = grain, keep
        self._cache: OrderedDict[int, PreparedEye] = OrderedDict()
        self._resident: EyeBatch | None = None
        if resident:
            self._resident = stack_eyes([self._eye(i) for i in range(len(self.eyes))]).to(self.device)
            self._cache.clear()

    @property
    def count(self) -> int:
        """How many eyes there are."""
        return len(self.eyes)

    def names(self) -> Iterable[str]:
        """File names, or what eyes in memory are of."""
        return map(_eye_name, self.eyes)

    def _eye(self, number: int) -> PreparedEye:
        eye = self.eyes[number]
        if isinstance(eye, PreparedEye):
            return eye
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        loaded = load_eye(eye)
        self._cache[number] = loaded
        if len(self._cache) > self.keep:
            self._cache.popitem(last=False)
        return loaded

    def batch_at(self, index: int) -> Samples:
        """Batch number ``index``, whatever came before."""
        numbers, generator = self.order(index)
        if self._resident is not None:
            rows = torch.tensor(numbers, device=self.device)
            whole = self._resident
            eyes = whole.rows(rows)
        else:
            eyes = stack_eyes([self._eye(number) for number in numbers])
        return render_samples(
            eyes,
            generator,
            crop=self.settings.crop,
            lesions=self.settings.lesions,
            painting=self.settings.painting,
            steps=self.steps,
            grain=self.grain,
            poor=self.settings.poor,
            device=self.device,
        )


def _eye_name(eye: Path | PreparedEye) -> str:
    if isinstance(eye, Path):
        return eye.name
    return f"{eye.metadata.get('source', '')} {eye.metadata.get('photo_sha256', '')}"
