"""The colours of a drawn fundus: what light does between pupil, retina, blood, pigment and film.

Layers multiply, as light passes each twice (Preece and Claridge 2002, "Monte Carlo modelling of the spectral
reflectance of the human eye", Phys Med Biol 47:2863): sclera and choroid reflect, melanin and haemoglobin
absorb mostly blue and green, so blood is darkest in the green channel and hardly seen in the red.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from retina_fm.training.simulator.anatomy.plan import Anatomy
from retina_fm.training.simulator.anatomy.strokes import Strokes

Map = NDArray[np.float32]
Image = NDArray[np.float32]

# Optical density of a full-depth column, red green blue.
_ARTERY = np.array([0.16, 0.62, 0.52], np.float32)
_VEIN = np.array([0.36, 0.86, 0.62], np.float32)
_BLOOD = np.array([0.62, 1.35, 1.0], np.float32)
_LIGHT = np.array([0.93, 0.47, 0.21], np.float32)  # blond fundus
_DARK = np.array([0.55, 0.25, 0.095], np.float32)  # dark fundus


def _mix(image: Image, colour: tuple[float, float, float], weight: Map) -> Image:
    return image + (np.array(colour, np.float32) - image) * weight[..., None]


def _background(
    rng: np.random.Generator, anatomy: Anatomy, size: int, radius: float, x: Map, y: Map
) -> Image:
    """Choroid, pigment epithelium and nerve fibres, before vessels; float32 (S, S, 3)."""
    traits = anatomy.traits
    base = _LIGHT + (_DARK - _LIGHT) * np.float32(traits.pigmentation)
    base = base * np.array([1.0, 1.0 - 0.13 * traits.hue, 1.0 + 0.1 * traits.hue], np.float32)
    image = np.broadcast_to(base, (size, size, 3)).astype(np.float32).copy()
    to_fovea = np.hypot(x - anatomy.fovea[0], y - anatomy.fovea[1])
    to_disc = np.hypot(x - anatomy.disc[0], y - anatomy.disc[1])
    # Choroidal vessels show through thin pigment, least at the macula.
    bands = choroidal_vessels(rng, size, radius * rng.uniform(0.026, 0.042), y * radius, x * radius)
    show = (
        traits.tessellation
        * (1 - 0.8 * np.exp(-((to_fovea / 0.38) ** 2)))
        * (0.35 + 0.65 * np.clip(to_disc, 0, 1))
    )
    contrast = ((bands - 0.45) * show)[..., None] * np.array([0.12, 0.3, 0.3], np.float32)
    image *= 1 + contrast * (0.6 + 0.6 * traits.pigmentation)
    image *= 1 + (0.05 * cloud(rng, size, 0.5 * radius))[..., None] * np.array([0.5, 1.0, 1.1], np.float32)
    grain = smooth_noise(rng, size, max(2.5, 0.012 * radius))
    image *= 1 + 0.014 * grain[..., None] * np.array([0.7, 1.0, 0.8], np.float32)
    # Nerve-fibre sheen: fine streaks that fan out of the disc, brightest above and below it in the young.
    angle = np.arctan2(y - anatomy.disc[1], (x - anatomy.disc[0]) * anatomy.temporal)
    streaks = np.interp(
        angle,
        np.linspace(-np.pi, np.pi, 721),
        ndimage.gaussian_filter1d(rng.standard_normal(721), 1.6, mode="wrap") * 1.8,
    )
    poles = np.exp(-(((np.abs(angle) - 1.25) / 0.55) ** 2)) * np.exp(-((to_disc / 0.42) ** 2))
    sheen = (traits.youth**1.5 * poles * (0.085 + 0.035 * streaks)).astype(np.float32)
    image += sheen[..., None] * np.array([0.55, 0.9, 0.75], np.float32)
    # Macula: more pigment and xanthophyll, a darker fovea, sometimes a pin-point reflex.
    macula = rng.uniform(0.12, 0.26) * np.exp(-((to_fovea / 0.26) ** 2)) + rng.uniform(0.14, 0.32) * np.exp(
        -((to_fovea / 0.085) ** 2)
    )
    image *= 1 - macula[..., None] * np.array([0.62, 1.0, 1.12], np.float32)
    if rng.random() < 0.45:
        image += (rng.uniform(0.03, 0.2) * np.exp(-((to_fovea / 0.011) ** 2)))[..., None].astype(np.float32)
    if traits.youth > 0.6 and rng.random() < 0.6:
        ring = np.exp(-(((to_fovea - 0.2) / 0.02) ** 2)) * (0.5 + 0.5 * smooth_noise(rng, size, 0.2 * radius))
        image += (0.035 * traits.youth * ring)[..., None].astype(np.float32) * np.array(
            [0.8, 1.0, 0.9], np.float32
        )
    return image.astype(np.float32)


def _disc(
    rng: np.random.Generator, anatomy: Anatomy, image: Image, radius: float, x: Map, y: Map
) -> tuple[Image, Map]:
    """Paints rim, cup, scleral ring and crescent; returns the picture and the disc's coverage."""
    traits = anatomy.traits
    u = (x - anatomy.disc[0]) * anatomy.temporal / (traits.disc_radius * rng.uniform(0.88, 1.0))
    v = (y - anatomy.disc[1]) / (traits.disc_radius * rng.uniform(1.0, 1.08))
    tilt = rng.normal(0, 0.15)
    u, v = u * np.cos(tilt) + v * np.sin(tilt), v * np.cos(tilt) - u * np.sin(tilt)
    theta = np.arctan2(v, u)
    wave = 1 + 0.03 * np.cos(2 * theta + rng.uniform(0, 6)) + 0.02 * np.cos(3 * theta + rng.uniform(0, 6))
    level = np.hypot(u, v) / wave
    edge = rng.uniform(0.05, 0.11)
    cover = 1 / (1 + np.exp(np.clip((level - 1) / (0.5 * edge), -30, 30)))
    # Pigment and atrophy beside the disc, mostly temporal.
    crescent = np.exp(-(((level - 1.12) / 0.14) ** 2)) * np.clip(0.5 + 0.7 * u, 0, 1)
    if rng.random() < 0.45:
        image = _mix(image, (0.9, 0.66, 0.42), (rng.uniform(0.15, 0.6) * crescent).astype(np.float32))
    elif rng.random() < 0.4:
        image = image * (1 - (rng.uniform(0.15, 0.4) * crescent)[..., None]).astype(np.float32)
    halo = np.exp(-((np.clip(level - 1, 0, None) / 0.55) ** 2)) * 0.12
    image = image * (1 + halo[..., None].astype(np.float32) * np.array([0.5, 1.0, 0.8], np.float32))
    brightness = rng.uniform(0.88, 1.04) - 0.2 * traits.pigmentation
    pallor = rng.uniform(0, 1)
    rim = (1.06 * brightness, (0.7 + 0.1 * pallor) * brightness, (0.36 + 0.12 * pallor) * brightness)
    image = _mix(image, rim, (cover * (0.88 - 0.13 * np.clip(-u, 0, 1))).astype(np.float32))
    cup_level = np.hypot(u - 0.1, v / 1.06) / max(traits.cup, 0.05)
    cup = 1 / (1 + np.exp(np.clip((cup_level - 1) / 0.22, -30, 30))) * cover
    image = _mix(
        image, (1.08 * brightness, 0.96 * brightness, 0.68 * brightness), (0.85 * cup).astype(np.float32)
    )
    lamina = cloud(rng, len(x), 0.05 * radius, 2)
    image = image * (1 + 0.02 * (lamina * cover)[..., None])
    return image.astype(np.float32), cover.astype(np.float32)


def _lesions(rng: np.random.Generator, image: Image, masks: dict[str, Map], radius: float) -> Image:
    """Lesions that lie under the vessels' reflex but over the background."""
    size = len(image)
    uneven = 1 + 0.22 * smooth_noise(rng, size, 0.03 * radius)
    scar = masks["scar"]
    if scar.any():
        rim = np.clip(ndimage.gaussian_filter(scar, 0.008 * radius) - 0.75 * scar, 0, 1)
        image = _mix(image, (0.84, 0.66, 0.4), np.clip(0.5 * scar * uneven, 0, 1))
        image = image * (1 - 0.5 * rim[..., None])
        spots = np.clip(smooth_noise(rng, size, 0.03 * radius) - 0.6, 0, 1) * scar
        image = image * (1 - 0.6 * spots[..., None])
    image = _mix(image, (0.93, 0.74, 0.36), np.clip(0.42 * masks["drusen"] * uneven, 0, 1))
    image = _mix(image, (0.92, 0.84, 0.66), np.clip(0.5 * masks["cotton_wool_spot"] * uneven, 0, 1))
    image = _mix(image, (0.99, 0.88, 0.46), np.clip(0.82 * masks["hard_exudate"] * uneven, 0, 1))
    blood = np.clip(0.72 * masks["haemorrhage"] * uneven + 0.5 * masks["microaneurysm"], 0, 1.1)
    return np.asarray(image * np.exp(-blood[..., None] * _BLOOD), np.float32)


def _camera(
    rng: np.random.Generator,
    image: Image,
    field: NDArray[np.bool_],
    radius: float,
    x: Map,
    y: Map,
) -> Image:
    """Illumination, haze, flare at the rim, focus, grain and tone."""
    size = len(image)
    ox, oy = rng.normal(0, 0.16, 2)
    far = np.hypot(x - ox, y - oy)
    image = (
        image
        * (1 - rng.uniform(0.16, 0.42) * far**2 + 0.04 * smooth_noise(rng, size, 1.4 * radius))[..., None]
    )
    image = image * rng.uniform(0.8, 1.04)
    haze = rng.beta(1, 7)
    image = image * (1 - 0.6 * haze) + 0.6 * haze * np.array([0.52, 0.42, 0.3], np.float32) * rng.uniform(
        0.6, 1.0
    )
    if rng.random() < 0.45:  # light scattered at the iris: a bluish or orange crescent along the rim
        side = rng.uniform(0, 2 * np.pi)
        lobe = np.clip(np.cos(np.arctan2(y, x) - side), 0, 1) ** 2
        flare = rng.uniform(0.05, 0.28) * np.exp((np.hypot(x, y) - 1) / 0.07).clip(0, 1.1) * lobe
        tint = (0.75, 0.78, 0.82) if rng.random() < 0.5 else (0.95, 0.62, 0.34)
        image = _mix(image.astype(np.float32), tint, flare.astype(np.float32))
    blur = rng.uniform(0.35, 1.0) * size / 512
    image = np.stack(
        [ndimage.gaussian_filter(image[..., c], blur * (1.25 if c == 2 else 1.0)) for c in range(3)], -1
    )
    noise = rng.standard_normal((size, size, 3)).astype(np.float32)
    noise = 0.5 * noise + 0.5 * ndimage.gaussian_filter(noise, (0.8, 0.8, 0)) * 2
    image = image + rng.uniform(0.003, 0.012) * noise
    image = np.clip(image, 0, None) ** rng.uniform(0.9, 1.15)
    image = np.where(image > 0.85, 0.85 + 0.15 * np.tanh((image - 0.85) / 0.15), image)  # the film's shoulder
    window = ndimage.gaussian_filter(field.astype(np.float32), 0.7)
    black = np.array(rng.uniform(0, 0.02, 3), np.float32) * (rng.random() < 0.5)
    return np.asarray(image * window[..., None] + black * (1 - window[..., None]), np.float32)


def paint_fundus(
    rng: np.random.Generator,
    anatomy: Anatomy,
    arteries: Strokes,
    veins: Strokes,
    lesions: dict[str, Map],
    field: NDArray[np.bool_],
    size: int,
    radius: float,
    origin: tuple[float, float],
) -> tuple[NDArray[np.uint8], Map]:
    """Composes the photo.

    Args:
        rng: source of randomness.
        anatomy: landmarks and traits.
        arteries: strokes of the arterial tree.
        veins: strokes of the venous tree.
        lesions: masks of every type, float32 (S, S).
        field: the camera's window, bool (S, S).
        size: side S in pixels.
        radius: pixels a radius of the field of view.
        origin: (x, y) of its centre, pixel centres at whole numbers.

    Returns:
        Photo uint8 (S, S, 3) and the disc's coverage float32 (S, S).
    """
    grid = np.mgrid[:size, :size].astype(np.float32)
    y, x = (grid[0] - np.float32(origin[1])) / radius, (grid[1] - np.float32(origin[0])) / radius
    y, x = y.astype(np.float32), x.astype(np.float32)
    image = _background(rng, anatomy, size, radius, x, y)
    image, disc = _disc(rng, anatomy, image, radius, x, y)
    image = _lesions(rng, image, lesions, radius)
    thin = 1 - 0.25 * disc
    depth = anatomy.traits.pigmentation * 0.12 + rng.uniform(0.85, 1.15)
    wall = np.clip(arteries.coverage * 1.15, 0, 1)  # an artery crosses over the vein and hides it
    image = image * np.exp(-(depth * thin * veins.depth * (1 - 0.75 * wall))[..., None] * _VEIN)
    image = image * np.exp(-(depth * thin * arteries.depth)[..., None] * _ARTERY)
    reflex = (1 - 0.6 * disc) * anatomy.traits.reflex * (0.85 * arteries.core + 0.3 * veins.core * (1 - wall))
    image = image + (reflex * 0.13)[..., None] * image.clip(0, 1) * np.array([1.0, 1.7, 1.5], np.float32)
    image = _camera(rng, image, field, radius, x, y)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8), disc


def smooth_noise(rng: np.random.Generator, size: int, wavelength: float) -> Map:
    """Gaussian noise of one scale, zero mean and unit variance, float32 (size, size).

    Args:
        rng: source of randomness.
        size: side in pixels.
        wavelength: smallest structure in pixels; coarse fields are drawn small and enlarged by cubic splines.
    """
    coarse = max(4, int(np.ceil(2.0 * size / max(wavelength, 2.0))) + 4)
    if coarse >= size:
        field = ndimage.gaussian_filter(rng.standard_normal((size, size)).astype(np.float32), wavelength / 4)
    else:
        seed = rng.standard_normal((coarse, coarse)).astype(np.float32)
        at = np.linspace(1.5, coarse - 2.5, size, dtype=np.float32)
        rows = ndimage.zoom(seed, 1)  # a copy that the splines may use
        field = ndimage.map_coordinates(rows, np.meshgrid(at, at, indexing="ij"), order=3, mode="nearest")
    field = field.astype(np.float32)
    return np.asarray((field - field.mean()) / (field.std() + 1e-6), np.float32)


def cloud(
    rng: np.random.Generator, size: int, coarsest: float, octaves: int = 4, roughness: float = 0.55
) -> Map:
    """Noise with structure at several scales (1/f-like), zero mean and unit variance."""
    total = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        total += np.float32(roughness**octave) * smooth_noise(rng, size, coarsest / 2**octave)
    return np.asarray((total - total.mean()) / (total.std() + 1e-6), np.float32)


def choroidal_vessels(rng: np.random.Generator, size: int, width: float, y: Map, x: Map) -> Map:
    """A mesh of broad, winding bright bands (choroidal vessels) between dark pigment, in [0, 1].

    Bands are the zero crossings of noise that is stretched along a slowly turning direction.

    Args:
        rng: source of randomness.
        size: side in pixels.
        width: breadth of a band in pixels.
        y: rows of the pixels, warped or not, float32 (size, size).
        x: columns of the pixels.
    """
    bend = smooth_noise(rng, size, size * 0.7)
    angle = rng.uniform(0, np.pi) + 0.7 * bend
    warp_y, warp_x = smooth_noise(rng, size, 9 * width), smooth_noise(rng, size, 9 * width)
    across = (x + 1.6 * width * warp_x) * np.sin(angle) - (y + 1.6 * width * warp_y) * np.cos(angle)
    mesh = smooth_noise(rng, size, 6.5 * width)
    other = smooth_noise(rng, size, 9.0 * width)
    bands = np.abs(0.7 * mesh + 1.1 * np.sin(across * (np.pi / (3.2 * width))))
    bands = np.minimum(bands, np.abs(other))
    return np.asarray(ndimage.gaussian_filter(np.exp(-((bands / 0.5) ** 2)), 0.22 * width), np.float32)
