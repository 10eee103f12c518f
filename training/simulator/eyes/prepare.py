"""The first of two stages: from a photo to a prepared eye, once, on the CPU; the second is rendering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from retina_fm.errors import ConfigError, nearest
from retina_fm.pictures.masks import coverage
from retina_fm.training.simulator.eyes.arrival import axis_and_calibre, distance_along
from retina_fm.training.simulator.eyes.arteries_veins import split_vessels
from retina_fm.training.simulator.eyes.landmarks import find_landmarks
from retina_fm.training.simulator.eyes.prepared import ANCHOR_COUNT, ANCHORS, MAPS, UNITS, PreparedEye
from retina_fm.training.simulator.eyes.seen import see
from retina_fm.vessels.line_filter import blurred
from retina_fm.vessels.line_maps import vessel_coverage
from retina_fm.vessels.trust import believe
from retina_fm.vocabulary import LESION_TYPES

if TYPE_CHECKING:
    from retina_fm.network import Encoder
    from retina_fm.training.simulator.anatomy.drawn import DrawnRetina

Map = NDArray[np.float32]
Mask = NDArray[Any]


def lit_field(view: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Field of view of a picture that is black outside it, bool (S, S)."""
    light = ndimage.gaussian_filter(view.max(2).astype(np.float32), 1.0)
    lit = light > max(12.0, 0.08 * float(np.quantile(light, 0.9)))
    lit = ndimage.binary_opening(lit, iterations=2)
    labels, count = ndimage.label(lit)
    if count == 0:
        return np.ones(view.shape[:2], bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(ndimage.binary_fill_holes(labels == sizes.argmax()), bool)


def _tissue(view: NDArray[np.uint8], field: NDArray[np.bool_], vessels: Map, radius: float) -> dict[str, Map]:
    """Texture of the choroid and candidate dark and bright spots, from the photo alone."""
    inside = field.astype(np.float32)
    free: Map = np.asarray(
        inside * (1 - np.clip(ndimage.maximum_filter(vessels, 3) * 1.5, 0, 1)) + 1e-3 * inside, np.float32
    )
    logs = np.log(view.astype(np.float32) + 8)
    red: Map = np.asarray(0.6 * logs[..., 0] + 0.4 * logs[..., 1], np.float32)
    band = blurred(red, free, 0.012 * radius) - blurred(red, free, 0.13 * radius)
    spread = float(band[field].std()) + 1e-4
    choroid = np.clip(0.5 + band / spread * 0.16, 0, 1)
    green: Map = np.asarray(logs[..., 1], np.float32)
    spot = blurred(green, free, 0.006 * radius) - blurred(green, inside, 0.1 * radius)
    noise = 1.4826 * float(np.median(np.abs(spot[field] - np.median(spot[field])))) + 1e-3
    margin = np.clip(
        ndimage.distance_transform_edt(np.pad(field, 1))[1:-1, 1:-1] / (0.05 * radius) - 0.3, 0, 1
    )
    away = margin * (1 - np.clip(vessels * 1.6, 0, 1))
    dark = np.clip((-spot / noise - 3.2) / 3.0, 0, 1) * np.clip(-spot / 0.16, 0, 1) * away
    bright = np.clip((spot / noise - 4.0) / 4.0, 0, 1) * np.clip(spot / 0.2, 0, 1) * away
    return {"choroid": np.asarray(choroid, np.float32), "dark": dark, "bright": bright}


def _anchors(rng: np.random.Generator, probabilities: list[Map]) -> NDArray[np.float32]:
    """Random places (x, y) in [-1, 1] by probability maps, float32 (maps, ANCHOR_COUNT, 2)."""
    size = probabilities[0].shape[0]
    places = []
    for probability in probabilities:
        total = np.cumsum(probability.ravel(), dtype=np.float64)
        if total[-1] <= 0:
            total = np.arange(1, size * size + 1, dtype=np.float64)
        index = np.searchsorted(total, rng.random(ANCHOR_COUNT) * total[-1])
        y, x = np.unravel_index(np.minimum(index, size * size - 1), (size, size))
        places.append(np.stack([(x + 0.5) / size * 2 - 1, (y + 0.5) / size * 2 - 1], 1))
    return np.asarray(places, np.float32)


def _estimated(view: NDArray[np.uint8], field: NDArray[np.bool_], radius: float, disc: Map | None) -> Map:
    """Vessels in two passes: the first finds the disc, the second leaves its rim out."""
    first = vessel_coverage(view, field, radius)
    found = find_landmarks(view, field, first, disc=disc)
    return vessel_coverage(view, field, radius, disc=(*found.disc, found.disc_radius))


def _bytes(name: str, value: Map) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(value / UNITS[name]), 0, 255), np.uint8)


def prepare_view(
    view: NDArray[np.uint8],
    field_of_view: NDArray[np.bool_] | None = None,
    *,
    vessels: Map | None = None,
    arteries: Map | None = None,
    veins: Map | None = None,
    lesions: Mapping[str, Map] | None = None,
    disc: Map | None = None,
    landmarks: tuple[tuple[float, float], float, tuple[float, float]] | None = None,
    seen_by: Encoder | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> PreparedEye:
    """Prepares an eye from a square view and maps in the view's own pixels.

    Args:
        view: uint8 (S, S, 3), black outside the field of view.
        field_of_view: bool (S, S); found when None.
        vessels: coverage in [0, 1]; estimated from the photo when None and no arteries and veins are given.
        arteries: coverage; split from ``vessels`` by colour, calibre and connection when None.
        veins: likewise.
        lesions: coverage of each known type, (S, S) in [0, 1]; a known type without lesions is a zero map.
        disc: coverage of the optic disc; found when None.
        landmarks: disc centre, disc radius and fovea centre in pixels, where they are known.
        seen_by: trained encoder that maps vessels, disc and fovea where none are given, instead of a filter.
        metadata: JSON values kept with the eye.

    Raises:
        ConfigError: maps of the wrong size, an unknown lesion, arteries without veins or the reverse.
    """
    size = view.shape[0]
    if view.shape != (size, size, 3) or view.dtype != np.uint8:
        raise ConfigError(
            f"A view must be uint8 (S, S, 3), not {view.dtype} {view.shape}. Make it with Transform."
        )
    given = {"vessels": vessels, "arteries": arteries, "veins": veins, "disc": disc, **(lesions or {})}
    for name, value in given.items():
        if value is not None and value.shape != (size, size):
            raise ConfigError(
                f"{name} is {value.shape}, but the photo's view is {(size, size)}. Give maps of its size."
            )
    for name in lesions or {}:
        if name not in LESION_TYPES:
            raise ConfigError(
                f"{name!r} is not a type of lesion that is known here. {nearest(name, LESION_TYPES)}"
            )
    if (arteries is None) != (veins is None):
        raise ConfigError(
            "Arteries came without veins, or veins without arteries. Give both, or vessels alone."
        )
    field = lit_field(view) if field_of_view is None else np.asarray(field_of_view, bool)
    radius = float(max(np.ptp(np.flatnonzero(field.any(0))), np.ptp(np.flatnonzero(field.any(1)))) + 1) / 2
    about: dict[str, Any] = {"vessels": "given"}
    unsure = np.zeros(field.shape, np.float32)
    if arteries is None or veins is None:
        if vessels is None and seen_by is not None:
            seen = see(seen_by, view, field, radius)
            vessels, unsure = seen.vessels, seen.unsure.astype(np.float32)
            disc, landmarks = seen.disc if disc is None else disc, landmarks or seen.landmarks
            about = {"vessels": "seen", "trust": round(seen.trust, 4)}
        elif vessels is None:
            estimated = _estimated(view, field, radius, disc)
            found = find_landmarks(view, field, estimated, disc=disc)
            believed = believe(view, estimated, field, radius, found.disc_radius, found.fovea)
            vessels, unsure = believed.vessels, believed.unsure.astype(np.float32)
            about = {"vessels": "estimated", "trust": round(believed.trust, 4)}
        if vessels is not None:
            arteries, veins = split_vessels(view, field, vessels, radius)
    inside = field.astype(np.float32)
    artery, vein = np.asarray(arteries, np.float32) * inside, np.asarray(veins, np.float32) * inside
    both = np.clip(np.maximum(artery + vein, 0), 0, 1)
    if landmarks is None:
        found = find_landmarks(view, field, both, disc=disc)
        disc_centre, disc_radius, fovea = found.disc, found.disc_radius, found.fovea
    else:
        disc_centre, disc_radius, fovea = landmarks
    y, x = np.mgrid[:size, :size].astype(np.float32) + 0.5
    from_disc = np.hypot(y - disc_centre[0], x - disc_centre[1])
    from_fovea = np.hypot(y - fovea[0], x - fovea[1]) / disc_radius
    if disc is None:
        disc = 1 / (1 + np.exp(np.clip((from_disc - disc_radius) / (0.06 * disc_radius), -30, 30)))
    artery_axis, artery_calibre = axis_and_calibre(artery, radius)
    vein_axis, vein_calibre = axis_and_calibre(vein, radius)
    # The foveal avascular zone is about half a millimetre wide, 0.3 disc diameters (Bird and Weale 1974).
    zone = 1 - np.exp(-((from_fovea / 0.42) ** 2))
    capillary = zone * (1 - 0.35 * np.clip(ndimage.gaussian_filter(artery, 0.008 * radius) * 2, 0, 1))
    capillary *= 0.72 + 0.28 * np.exp(-((from_fovea / 7.0) ** 2))
    macula = 0.6 * np.exp(-((from_fovea / 1.5) ** 2)) + 0.4 * np.exp(-((from_fovea / 0.55) ** 2))
    maps: dict[str, Map] = {
        "field_of_view": inside,
        "artery": artery,
        "vein": vein,
        "artery_delay": distance_along(artery, field, disc_centre, disc_radius, radius),
        "vein_delay": distance_along(vein, field, disc_centre, disc_radius, radius),
        "axis": np.maximum(artery_axis, vein_axis),
        "calibre": np.maximum(artery_calibre, vein_calibre),
        "capillary": np.asarray(capillary * inside, np.float32),
        "macula": np.asarray(macula, np.float32),
        "disc": np.asarray(disc * inside, np.float32),
        **_tissue(view, field, both, radius),
        "unsure": unsure,
    }
    # The fovea is dark and the disc bright by nature: neither is a lesion.
    natural = np.clip(1.5 * np.asarray(disc, np.float32) + np.exp(-((from_fovea / 1.2) ** 4)), 0, 1)
    for name in ("dark", "bright"):
        maps[name] = np.asarray(maps[name] * (1 - natural), np.float32)
    off_disc = np.asarray(inside * (from_disc > 1.3 * disc_radius), np.float32)
    edge = field & ~ndimage.binary_erosion(field, iterations=max(2, int(0.05 * radius)))
    rng = np.random.Generator(np.random.PCG64(int(view[::7, ::7].sum())))
    places = {
        "artery": artery * off_disc,
        "vein": vein * off_disc,
        "edge": edge.astype(np.float32),
        "macula": np.asarray(np.exp(-0.5 * (from_fovea / 1.6) ** 2) * off_disc, np.float32),
    }
    known = np.array([name in (lesions or {}) for name in LESION_TYPES])
    painted = np.zeros((len(LESION_TYPES), size, size), np.uint8)
    for index, name in enumerate(LESION_TYPES):
        if known[index] and lesions is not None:
            painted[index] = _bytes(name, np.asarray(lesions[name], np.float32) * inside)
    clean = view * field[..., None].astype(np.uint8)
    stacked = [clean[..., c] if c < 3 else _bytes(name, maps[name]) for c, name in enumerate(MAPS)]
    return PreparedEye(
        maps=np.stack(stacked),
        lesions=painted,
        lesion_known=known,
        anchors=_anchors(rng, [places[name] for name in ANCHORS]),
        radius=radius,
        disc_radius=float(disc_radius),
        disc_centre=disc_centre,
        fovea_centre=fovea,
        metadata={**about, **(metadata or {})},
    )


def prepare_drawn(retina: DrawnRetina) -> PreparedEye:
    """Prepares a drawn retina, all of whose truth is known."""
    disc_radius = float(np.sqrt(max(float(retina.disc.sum()), 1.0) / np.pi))
    return prepare_view(
        retina.photo,
        retina.field_of_view,
        arteries=retina.arteries,
        veins=retina.veins,
        lesions=retina.lesions,
        disc=retina.disc,
        landmarks=(retina.disc_centre, disc_radius, retina.fovea_centre),
        metadata={"vessels": "drawn", "source": f"drawn:{retina.seed}", "eye": retina.eye},
    )


def _refuse_black(trees: Mapping[str, Map | None]) -> None:
    """Every retina has vessels: a black mask of them is of another photo, or was not read as it was meant."""
    for name, tree in trees.items():
        if tree is not None and float(tree.max(initial=0)) < 0.02:
            raise ConfigError(
                f"The {name} mask is black where the photo shows the retina. Give the mask of this photo, "
                f"with {name} in white, or leave it out so that vessels are estimated."
            )


def prepare_eye(
    photo: Any,
    *,
    vessels: Mask | None = None,
    arteries: Mask | None = None,
    veins: Mask | None = None,
    lesions: Mapping[str, Mask] | None = None,
    disc: Mask | None = None,
    healthy: bool = False,
    size: int = 512,
    seen_by: Encoder | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> PreparedEye:
    """Prepares an eye from any photo.

    Args:
        photo: whatever ``retina_fm.encode`` takes as one photo.
        vessels: mask or coverage in the photo's own pixels (bool, uint8 0 to 255, or float in [0, 1]); black
            and one other level is a mask, whatever that level.
        arteries: likewise, together with ``veins``.
        veins: likewise.
        lesions: likewise, a mask for each known type of lesion.
        disc: likewise.
        healthy: the photo is known to show no lesions of any type but those given.
        size: side of the view in pixels.
        seen_by: trained encoder that maps vessels, disc and fovea where none are given, instead of a filter.
        metadata: JSON values kept with the eye.

    Returns:
        The eye in the pixels of ``Transform(size).view(photo)``.

    Raises:
        PictureError: the photo cannot be read.
        ConfigError: a mask's size is not the photo's, its levels are labels, or it shows no vessels.
    """
    from retina_fm.pictures import Transform

    view, geometry = Transform(size=size).view(photo)

    def seen(name: str, mask: Mask | None) -> Map | None:
        if mask is None:
            return None
        array = np.asarray(mask)
        if array.shape[:2] != (geometry.height, geometry.width):
            raise ConfigError(
                f"{name} is {array.shape[:2]}, but the photo is {(geometry.height, geometry.width)}. "
                "Give masks in the photo's own pixels."
            )
        if array.ndim == 3:
            array = array[..., :3].max(2)
        return np.asarray(geometry.view_of(coverage(array), "area"), np.float32)

    known = {name: value for name, mask in (lesions or {}).items() if (value := seen(name, mask)) is not None}
    if healthy:
        known = {name: np.zeros((size, size), np.float32) for name in LESION_TYPES} | known
    given = {"vessels": vessels, "arteries": arteries, "veins": veins}
    trees = {name: seen(name, mask) for name, mask in given.items()}
    _refuse_black(trees)
    return prepare_view(
        view,
        vessels=trees["vessels"],
        arteries=trees["arteries"],
        veins=trees["veins"],
        lesions=known,
        disc=seen("disc", disc),
        seen_by=seen_by,
        metadata=metadata,
    )
