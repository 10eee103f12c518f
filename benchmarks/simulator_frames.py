"""What is measured on one grey angiogram frame, real or simulated, by the same code."""

from __future__ import annotations

import io
import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, stats

from retina_fm.encoding.precision import fastest_precision
from retina_fm.models import load_generator
from retina_fm.network.levels import from_levels, to_uint8
from retina_fm.network.masks import OUTSIDE
from retina_fm.network.unrolling import generate_frames, step_in
from retina_fm.pictures.angiograph import as_taken
from retina_fm.training import load_eye, render_batch
from retina_fm.vocabulary import PHASES

Grey = NDArray[np.uint8]
WHITE = 250  # grey levels from here count as saturated
BINS = np.arange(257) - 0.5


@dataclass(frozen=True)
class Seen:
    """One frame: where it comes from, its histogram and its figures."""

    source: str
    name: str
    phase: str
    real: bool
    histogram: NDArray[np.float64]
    figures: dict[str, float]


def lit(frame: Grey) -> NDArray[np.bool_]:
    """Field of view without its rim: real frames and prepared eyes are round and black outside."""
    light = ndimage.gaussian_filter(frame.astype(np.float32), 3) > 6
    filled = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(light, 12), iterations=10))
    return np.asarray(ndimage.binary_erosion(filled, iterations=10)[12:-12, 12:-12], bool)


def ridges(frame: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bright lines of three widths: minus the smaller eigenvalue of the Hessian, scaled."""
    best = np.zeros_like(frame)
    for sigma in (1.5, 2.5, 4.0):
        yy, xx, xy = (ndimage.gaussian_filter(frame, sigma, order) for order in ((2, 0), (0, 2), (1, 1)))
        least = 0.5 * (yy + xx) - np.sqrt(0.25 * (yy - xx) ** 2 + xy**2)
        best = np.maximum(best, -least * sigma**1.5)
    return best


def spectrum(frame: NDArray[np.float32], inside: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Log frequency and log power of the middle 256 x 256 pixels, in twelve bands of 2 to 120 cycles."""
    y, x = (int(v) for v in ndimage.center_of_mass(inside))
    y, x = np.clip([y, x], 128, 512 - 128)
    square = frame[y - 128 : y + 128, x - 128 : x + 128]
    window = np.hanning(256)
    power = np.abs(np.fft.fftshift(np.fft.fft2((square - square.mean()) * np.outer(window, window)))) ** 2
    far = np.hypot(*np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))
    edges = np.geomspace(2, 121, 13)
    bands = [power[(far >= low) & (far < high)].mean() for low, high in itertools.pairwise(edges)]
    return np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(np.asarray(bands) + 1e-6)


def measure(grey: Grey, source: str, name: str, phase: str, real: bool) -> Seen:
    """All figures of one frame."""
    inside = lit(grey)
    frame = grey.astype(np.float32)
    levels = frame[inside]
    figures: dict[str, float] = {}
    strength = ridges(frame)
    strong = np.quantile(strength[inside], 0.94)
    vessel = inside & (strength >= strong)
    ground = inside & ~ndimage.binary_dilation(inside & (strength >= strong * 0.7), iterations=4)
    ground = ground if ground.sum() > 500 else inside & ~vessel
    dark, bright = np.median(frame[ground]), np.median(frame[vessel])
    figures["vessel contrast"] = float((bright - dark) / (bright + dark + 1))
    along, power = spectrum(frame, inside)
    figures["spectrum slope"] = float(np.polyfit(along[2:9], power[2:9], 1)[0])
    figures["saturated fraction"] = float((levels >= WHITE).mean())
    figures["mean grey"] = float(levels.mean())
    figures["spread of grey"] = float(levels.std())
    figures["skewness"] = float(stats.skew(levels))
    for share in (1, 5, 25, 50, 75, 95, 99):
        figures[f"grey quantile {share}"] = float(np.percentile(levels, share))
    for number, value in enumerate(power - power.mean()):
        figures[f"spectrum band {number}"] = float(value)
    last = frame
    for sigma in (0.7, 1.4, 2.8, 5.6, 11.2, 22.4):
        blurred = ndimage.gaussian_filter(frame, sigma)
        band = (last - blurred)[inside]
        figures[f"band {sigma} relative spread"] = float(band.std() / levels.mean())
        figures[f"band {sigma} kurtosis"] = float(np.log1p(max(stats.kurtosis(band), -0.9)))
        figures[f"band {sigma} skewness"] = float(stats.skew(band))
        last = blurred
    # Grain on bright and on dark ground, and its correlation from pixel to pixel.
    fine = frame - ndimage.gaussian_filter(frame, 1.5)
    figures["grain on ground"] = float(fine[ground].std() / (dark + 1))
    side = inside[:, 1:] & inside[:, :-1]
    figures["grain correlation"] = float(np.corrcoef(fine[:, 1:][side], fine[:, :-1][side])[0, 1])
    # Light from the middle to the rim, and how unlike the quarters are.
    yy, xx = np.nonzero(inside)
    far = np.hypot(yy - yy.mean(), xx - xx.mean())
    far = far / far.max()
    figures["rim to middle"] = float(np.median(levels[far > 0.8]) / (np.median(levels[far < 0.4]) + 1))
    quarters = [
        np.median(levels[((yy > yy.mean()) == a) & ((xx > xx.mean()) == b)]) for a in (0, 1) for b in (0, 1)
    ]
    figures["quarters' spread"] = float(np.std(quarters) / (np.mean(quarters) + 1))
    histogram = np.histogram(levels, BINS)[0] / max(len(levels), 1)
    return Seen(source, name, phase, real, histogram, figures)


def real_frames(folder: Path) -> tuple[list[Seen], Any]:
    """Real frames of ``ffa_frames`` and the JPEG tables that they were stored with.

    Those under ``phase`` have a phase; those under ``disease`` (late and middle frames, not told apart) stand
    in for late ones.
    """
    seen, tables = [], None
    for path in sorted(folder.glob("*/*/*.jpg")):
        with Image.open(path) as picture:
            tables = tables or picture.quantization  # type: ignore[attr-defined]
            grey = np.asarray(picture.convert("L"))
        labelled = path.parent.parent.name == "phase"
        phase = path.parent.name if labelled else "late"
        seen.append(measure(grey, path.parent.name, path.stem, phase, True))
    return seen, tables


def stored(frame: Grey, tables: Any) -> Grey:
    """The frame after the same JPEG compression as the real ones, so that nothing is told apart by it."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", qtables=tables)
    return np.asarray(Image.open(buffer))


def chosen_eyes(folder: Path, limit: int) -> list[Path]:
    """Up to ``limit`` prepared eyes of a folder, evenly over it."""
    files = sorted(folder.glob("*.eye.safetensors"))
    return files[:: max(1, len(files) // limit)][:limit]


def simulated_frames(
    folders: Sequence[Path], tables: Any, limit: int, seed: int, painting: float = 0.5
) -> tuple[list[Seen], dict[str, list[Grey]]]:
    """One frame of each phase of up to ``limit`` eyes a folder, and the frames themselves by phase."""
    seen: list[Seen] = []
    pictures: dict[str, list[Grey]] = {phase: [] for phase in PHASES}
    for folder in folders:
        for number, file in enumerate(chosen_eyes(folder, limit)):
            eye = load_eye(file)
            generator = torch.Generator().manual_seed(seed + number)
            slots = torch.randint(0, 4, (1, 3), generator=generator) + torch.tensor([[0, 4, 8]])
            rendered = render_batch([eye], generator, frames=slots, painting=painting, augment=False)
            frames = (rendered.frames[0].numpy() * 255).round().astype(np.uint8)
            for phase, frame in zip(PHASES, frames, strict=True):
                pictures[phase].append(stored(frame, tables))
                seen.append(measure(pictures[phase][-1], folder.name, file.stem, phase, False))
    return seen, pictures


def generated_frames(
    folders: Sequence[Path], tables: Any, limit: int, seed: int, model: str, cameras: Sequence[float] = (0.0,)
) -> dict[float, list[Seen]]:
    """The same of the frames that a generator makes of the eyes' photos, by how far one camera takes them."""
    seen: dict[float, list[Seen]] = {camera: [] for camera in cameras}
    generator = load_generator(model).eval()
    step = step_in(generator, fastest_precision(torch.device("cpu")).dtype)
    for folder in folders:
        for number, file in enumerate(chosen_eyes(folder, limit)):
            eye = load_eye(file)
            light = from_levels(eye.photo.transpose(2, 0, 1))
            photo = torch.where(torch.from_numpy(eye.field_of_view), light, OUTSIDE)[None]
            mean = (generate_frames(step, photo)[0].float() + 1) / 2
            random = torch.Generator().manual_seed(seed + number)
            slots = torch.randint(0, 4, (3,), generator=random) + torch.tensor([0, 4, 8])
            for camera in cameras:
                grey = as_taken(mean, seed + zlib.crc32(file.stem.encode()), camera)
                video = to_uint8(grey * 2 - 1) * eye.field_of_view
                for phase, slot in zip(PHASES, slots.tolist(), strict=True):
                    frame = stored(video[slot], tables)
                    seen[camera].append(measure(frame, folder.name, file.stem, phase, False))
    return seen
