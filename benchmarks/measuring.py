"""How far the numbers of retina_fm.measure can be believed, on photographs with labels.

    python benchmarks/measuring.py [--model NAME] [--cache FOLDER] [--sheet FILE.png] [--only eyes,...]

$RETINA_FM_TEST_DATA is read, at most 40 photographs a set, some made worse. Maps are kept in the cache, by
the model's hash, so that a run that was stopped goes on. Prints, and writes docs/results/measuring.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from tables import written

from retina_fm.encoding.embedder import load_fast
from retina_fm.measuring import calibre, vessels
from retina_fm.measuring.eye_side import seen_in
from retina_fm.measuring.lesions import RIM
from retina_fm.measuring.quality import quality
from retina_fm.measuring.reading import Reading
from retina_fm.measuring.row import measured
from retina_fm.models import read_config
from retina_fm.models.registry import resolve
from retina_fm.pictures import Geometry, read_picture
from retina_fm.pictures.tags import NOTHING
from retina_fm.training.simulator.rendering.poor_photos import degrade_poor

DATA = Path(os.environ["RETINA_FM_TEST_DATA"])
FAULTS: dict[str, dict[str, float]] = {
    "good": {},
    "blurred": {"poor_blur": 2.0},
    "dark": {"poor_gain": 0.25},
    "hazy": {"poor_haze": 0.7},
    "packed": {"poor_packing": 4.0},
    "cut": {},
}
EYES = {"OD": "right", "OS": "left"}
NUMBERS = (
    "quality",
    "disc_diameter",
    "disc_fovea_distance",
    "disc_fovea_angle",
    "vessel_density",
    "vessel_density_zone_1",
    "vessel_density_zone_2",
    "vessel_density_zone_3",
    "vessel_width",
    "tortuosity",
    "fractal_dimension",
)
LENGTHS = ("disc_diameter", "disc_fovea_distance", "vessel_width")


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def images(folder: Path, count: int | None = None, step: int = 1) -> list[Path]:
    return sorted((folder / "images").iterdir())[::step][:count]


def repeats(folder: Path, random: np.random.Generator) -> list[Path]:
    """Two photographs each of twenty eyes."""
    by: dict[tuple[str, str], list[str]] = {}
    for row in rows_of(folder):
        by.setdefault((row["patient_id"], row["eye"]), []).append(row["path"])
    keys = [key for key, paths in by.items() if len(paths) >= 2]
    return [folder / path for i in random.permutation(len(keys))[:20] for path in by[keys[i]][:2]]


def chosen() -> dict[str, list[Path]]:
    """The photographs of each set, the same in every run."""
    random = np.random.default_rng(0)
    sets = {"rite": images(DATA / "rite_train")}
    odir = [row for row in rows_of(DATA / "odir_dev") if "cataract" not in row["keywords"]]
    patients = sorted({row["patient_id"] for row in odir})
    drawn = [patients[i] for i in random.permutation(len(patients))[:20]]
    sets["odir"] = [found("odir_dev", row["path"]) for row in odir if row["patient_id"] in drawn]
    sets["grape"] = repeats(DATA / "pretrain" / "grape", random)
    sets["tvhl"] = repeats(DATA / "tvhl_dev", random)
    sets["hrf"] = images(DATA / "pretrain" / "hrf", 12, 4)
    sets["chase"] = images(DATA / "pretrain" / "chase_db1", 8, 3)
    hygd = sorted(rows_of(DATA / "pretrain" / "hygd"), key=lambda row: float(row["quality"]))
    places = np.linspace(0, len(hygd) - 1, 40).astype(int)
    sets["hygd"] = [DATA / "pretrain" / "hygd" / hygd[i]["path"] for i in places]
    sets["idrid"] = images(DATA / "pretrain" / "idrid_seg")
    sets["les"] = images(DATA / "les_av")
    normal = [row for row in rows_of(DATA / "odir_dev") if row["label"] == "N"]
    sets["healthy"] = [found("odir_dev", normal[i]["path"]) for i in random.permutation(len(normal))[:15]]
    rfmid = DATA / "pretrain" / "rfmid2"
    normal = [row for row in rows_of(rfmid) if "WNL" in row.values()]
    sets["healthy"] += [rfmid / normal[i]["path"] for i in random.permutation(len(normal))[:10]]
    rahim = sorted((DATA / "rahim_dev").rglob("*.jpg"))
    idrid = sorted((DATA / "idrid_grading").rglob("*.jpg"))
    sets["worse"] = rahim[:: max(1, len(rahim) // 8)][:8] + idrid[:: max(1, len(idrid) // 6)][:6]
    frames = [p for end in ("jpg", "png") for p in sorted((DATA / "ffa_frames").rglob(f"*.{end}"))]
    sets["not"] = frames[:: max(1, len(frames) // 8)][:8]
    return sets


def found(folder: str, path: str) -> Path:
    return next(p for p in (DATA / folder / path, DATA / folder / "images" / path) if p.exists())


class Maps:
    """Readings of photographs, each computed once and kept."""

    def __init__(self, cache: Path, model: str) -> None:
        self.cache = cache / read_config(resolve(model)).sha256[:12]
        self.model = model
        self.encoder: Any = None
        self.cache.mkdir(parents=True, exist_ok=True)

    def readings(
        self, name: str, photos: list[Path], fault: str = ""
    ) -> Iterator[tuple[Reading, Geometry, Path]]:
        for index, photo in enumerate(photos):
            kept = self.cache / f"{name}_{index:03d}{fault and '_' + fault}.npz"
            if not kept.exists():
                self.compute(photo, kept, fault)
            with np.load(kept) as arrays:
                geometry = Geometry.from_dict(json.loads(str(arrays["geo"])))
                view, layers = arrays["view"], arrays["maps"].astype(np.float32)
            inside = geometry.mask_in_view()
            architecture = self.loaded().architecture
            names = (*architecture.lesions, "vessel", *architecture.anatomy)
            maps = {name: layer * inside for name, layer in zip(names, layers, strict=True)}
            yield Reading(view, inside, geometry.radius / geometry.scale, maps), geometry, photo

    def loaded(self) -> Any:
        if self.encoder is None:
            self.encoder, precision = load_fast(self.model)
            print(precision, flush=True)
        return self.encoder

    @torch.inference_mode()
    def compute(self, photo: Path, kept: Path, fault: str) -> None:
        encoder = self.loaded()
        picture = read_picture(photo)
        view, geometry = encoder.transform.view(picture)
        if fault == "cut":
            picture = picture.copy()
            picture[:, : max(0, int(geometry.origin[1] + 0.45 * geometry.side))] = 0
            view, geometry = encoder.transform.view(picture)
        elif fault not in ("", "good"):
            view = worse(view, fault) * geometry.mask_in_view()[..., None]
        batch = torch.from_numpy(encoder.transform.normalise(view))[None].to(encoder.dtype)
        layers = encoder.dense_maps(encoder.maps(batch.contiguous(memory_format=torch.channels_last)))
        stacked = torch.cat(list(layers.values())).half().numpy()
        np.savez(kept, view=view, maps=stacked, geo=json.dumps(geometry.as_dict()))


def worse(view: np.ndarray, fault: str) -> np.ndarray:
    """A view with one fault of poor photographs."""
    neutral = {
        "poor_gain": torch.ones(1),
        "poor_haze": torch.zeros(1),
        "poor_haze_colour": torch.tensor([[0.62, 0.5, 0.4]]),
        "poor_blur": torch.zeros(1),
        "poor_cast": torch.ones(1, 3),
        "poor_packing": torch.zeros(1),
        "poor_sheen": torch.zeros(1),
        "poor_sheen_field": torch.zeros(1, 1, 14, 14),
    }
    faults = {key: torch.full((1,), value) for key, value in FAULTS[fault].items()}
    photo = torch.from_numpy(view.astype(np.float32) / 255).permute(2, 0, 1)[None]
    made = degrade_poor(photo, {**neutral, **faults})[0].permute(1, 2, 0).numpy()
    return (made * 255).round().clip(0, 255).astype(np.uint8)


def judge_quality(maps: Maps, sets: dict[str, list[Path]]) -> dict[str, Any]:
    stated = {Path(r["path"]).name: float(r["quality"]) for r in rows_of(DATA / "pretrain" / "hygd")}
    parts: dict[str, list[float]] = {}
    truth = []
    for reading, _, photo in maps.readings("hygd", sets["hygd"]):
        judged = quality(reading)
        truth.append(stated[photo.name])
        for part, value in {"whole": judged.whole, **judged._asdict()}.items():
            parts.setdefault(part, []).append(value)
    result: dict[str, Any] = {
        "hygd_spearman": {part: float(spearmanr(truth, values)[0]) for part, values in parts.items()}
    }
    by = {
        fault: [quality(reading).whole for reading, _, _ in maps.readings("degB", sets["worse"], fault)]
        for fault in FAULTS
    }
    good = by.pop("good")
    result["made_worse_auroc"] = {
        fault: float(roc_auc_score([1] * len(good) + [0] * len(bad), good + bad)) for fault, bad in by.items()
    }
    everything = [value for bad in by.values() for value in bad]
    result["made_worse_auroc"]["all"] = float(
        roc_auc_score([1] * len(good) + [0] * len(everything), good + everything)
    )
    result["made_worse_mean"] = {"good": np.mean(good), **{f: float(np.mean(bad)) for f, bad in by.items()}}
    others = [quality(reading) for reading, _, _ in maps.readings("frame", sets["not"])]
    result["angiogram_frames"] = {
        "photos": len(others),
        "fundus_below_0.3": sum(one.fundus < 0.3 for one in others),
    }
    return result


def judge_eyes(maps: Maps, sets: dict[str, list[Path]]) -> dict[str, Any]:
    result = {}
    for name, folder in (("odir", "odir_dev"), ("grape", "pretrain/grape"), ("tvhl", "tvhl_dev")):
        truth = {Path(r["path"]).name: EYES.get(r["eye"], r["eye"]) for r in rows_of(DATA / folder)}
        counts = {
            "photos": 0,
            "both": 0,
            "both_right": 0,
            "disc_alone": 0,
            "disc_alone_right": 0,
            "unsure": 0,
        }
        for reading, _, photo in maps.readings(name, sets[name]):
            counts["photos"] += 1
            seen = seen_in(reading)
            if seen is None or seen.confidence < 0.55:
                counts["unsure"] += 1
                continue
            kind = "disc_alone" if reading.fovea is None else "both"
            counts[kind] += 1
            counts[f"{kind}_right"] += seen.eye == truth[photo.name]
        result[name] = counts
    return result


def judge_discs(maps: Maps, sets: dict[str, list[Path]]) -> dict[str, Any]:
    off, ratio, missed = [], [], 0
    for reading, geometry, photo in maps.readings("idrid", sets["idrid"]):
        wanted = label(photo, "discs", geometry) >= 0.5
        if reading.disc is None:
            missed += 1
            continue
        radius = float(np.sqrt(wanted.sum() / np.pi))
        centre = np.argwhere(wanted).mean(0) + 0.5
        off.append(float(np.hypot(*(np.array(reading.disc.centre) - centre))) / radius)
        ratio.append(reading.disc.radius / radius)
    return {
        "photos": len(sets["idrid"]),
        "missed": missed,
        "within_half_a_radius": int((np.array(off) < 0.5).sum()),
        "mean_off_in_radii": float(np.mean(off)),
        "diameter_over_labelled": float(np.mean(ratio)),
    }


def label(photo: Path, kind: str, geometry: Geometry) -> np.ndarray:
    path = next((photo.parent.parent / kind).glob(f"{photo.stem}*"))
    return geometry.view_of(np.asarray(Image.open(path).convert("L")).astype(np.float32) / 255, "area")


def judge_vessels(maps: Maps, sets: dict[str, list[Path]]) -> dict[str, Any]:
    numbers: dict[str, Callable[[Reading], float]] = {
        "vessel_density": vessels.density,
        "tortuosity": lambda r: vessels.tortuosity(vessels.lines(r), r.radius) or np.nan,
        "fractal_dimension": vessels.fractal_dimension,
        "vessel_width": lambda r: mean_width(r),
        "crae": lambda r: central(r, arteries=True),
        "crve": lambda r: central(r, arteries=False),
    }
    result: dict[str, Any] = {}
    for name in ("rite", "les"):
        pairs: dict[str, list[tuple[float, float]]] = {key: [] for key in numbers}
        accuracy = []
        for reading, geometry, photo in maps.readings(name, sets[name]):
            kinds = {part: label(photo, part, geometry) for part in ("vessels", "arteries", "veins")}
            named = {"vessel": "vessels", "artery": "arteries", "vein": "veins"}
            layers = {part: (kinds[kind] * reading.inside).astype(np.float32) for part, kind in named.items()}
            wanted = Reading(reading.view, reading.inside, reading.radius, {**reading.maps, **layers})
            for key, number in numbers.items():
                pairs[key].append((number(reading), number(wanted)))
            artery = (layers["artery"] > 0.5) & (layers["vein"] < 0.5)
            vein = (layers["vein"] > 0.5) & (layers["artery"] < 0.5)
            share = reading.artery_share
            accuracy.append(((share[artery] > 0.5).mean() + (share[vein] <= 0.5).mean()) / 2)
        result[name] = {key: agreement(np.array(found)) for key, found in pairs.items()}
        result[name]["artery_vein_balanced_accuracy"] = float(np.mean(accuracy))
    return result


def mean_width(reading: Reading) -> float:
    crossing = calibre.calibres(reading) if reading.disc is not None else []
    return float(np.mean([one.width for one in crossing])) if crossing else np.nan


def central(reading: Reading, *, arteries: bool) -> float:
    crossing = calibre.calibres(reading) if reading.disc is not None else []
    widths = calibre.largest(crossing, arteries=arteries)
    factor = calibre.ARTERIOLES if arteries else calibre.VENULES
    return calibre.equivalent(widths, factor) if len(widths) >= calibre.LARGEST else np.nan


def agreement(pairs: np.ndarray) -> dict[str, float]:
    whole = pairs[np.isfinite(pairs).all(1)]
    if len(whole) < 5:
        return {"photos": len(whole)}
    return {
        "photos": len(whole),
        "correlation": float(np.corrcoef(whole.T)[0, 1]),
        "mean": float(whole[:, 0].mean()),
        "mean_off_labels": float(whole[:, 1].mean()),
    }


def judge_lesions(maps: Maps, sets: dict[str, list[Path]]) -> dict[str, Any]:
    thresholds = (0.02, 0.05, 0.1, 0.2, 0.5)
    healthy: dict[str, list[list[float]]] = {}
    for reading, _, _ in maps.readings("healthy", sets["healthy"]):
        for name in maps.loaded().architecture.lesions:
            healthy.setdefault(name, []).append([float(marked(reading, name, t).mean()) for t in thresholds])
    result: dict[str, Any] = {
        name: {"healthy_share": dict(zip(map(str, thresholds), np.mean(rows, 0).tolist(), strict=True))}
        for name, rows in healthy.items()
    }
    for name, kind in (("haemorrhage", "haemorrhages"), ("hard_exudate", "hard_exudates")):
        counts = np.zeros((2, len(thresholds), 3))
        for index, (reading, geometry, photo) in enumerate(maps.readings("idrid", sets["idrid"])):
            wanted = (label(photo, kind, geometry) * reading.inside >= 0.5)[reading.inside]
            for place, threshold in enumerate(thresholds):
                found = marked(reading, name, threshold)
                counts[index % 2, place] += (found & wanted).sum(), found.sum(), wanted.sum()
        for half, part in (("even", counts[0]), ("odd", counts[1]), ("all", counts.sum(0))):
            result[name][half] = {
                str(t): {"precision": float(hit / max(1, said)), "recall": float(hit / there)}
                for t, (hit, said, there) in zip(thresholds, part, strict=True)
            }
    return result


def marked(reading: Reading, name: str, threshold: float) -> np.ndarray:
    """Which pixels of the field are called, one value a pixel of the field."""
    deep = reading.depth_inside > max(1, round(RIM * reading.inside.shape[0]))
    return ((reading.maps[name] >= threshold) & deep)[reading.inside]


def judge_repeats(maps: Maps, sets: dict[str, list[Path]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in ("grape", "tvhl"):
        by: dict[str, list[dict[str, Any]]] = {}
        for reading, geometry, photo in maps.readings(name, sets[name]):
            values = measured(reading, geometry, photo, NOTHING, {}, allow_unreliable=True)
            for key in LENGTHS:  # cameras differ: lengths as shares of the field
                if values.get(key) is not None:
                    values[key] /= geometry.radius
            eye = re.match(r"(\d+_O[DIS])_", photo.name)
            assert eye is not None
            by.setdefault(eye[1], []).append(values)
        result[name] = {}
        for key in NUMBERS:
            pairs = [[v[key] for v in two] for two in by.values() if all(v.get(key) is not None for v in two)]
            if len(pairs) >= 5:
                result[name][key] = {"eyes": len(pairs), "icc": icc(np.array(pairs, float))}
    return result


def icc(pairs: np.ndarray) -> float:
    """Intraclass correlation of single measurements, two-way random effects, absolute agreement: ICC(2,1)."""
    n, k = pairs.shape
    rows, columns, mean = pairs.mean(1, keepdims=True), pairs.mean(0, keepdims=True), pairs.mean()
    between = k * ((rows - mean) ** 2).sum() / (n - 1)
    visits = n * ((columns - mean) ** 2).sum() / (k - 1)
    rest = ((pairs - rows - columns + mean) ** 2).sum() / ((n - 1) * (k - 1))
    return float((between - rest) / (between + (k - 1) * rest + k * (visits - rest) / n))


def draw_sheet(maps: Maps, sets: dict[str, list[Path]], out: Path, side: int = 300, wide: int = 5) -> None:
    """Discs and foveae on pictures of HRF and CHASE_DB1, to be looked at."""
    tiles = []
    for name in ("hrf", "chase"):
        for reading, _, photo in maps.readings(name, sets[name]):
            tile = Image.fromarray(reading.view).resize((side, side))
            draw, scale = ImageDraw.Draw(tile), side / reading.view.shape[0]
            if reading.disc is not None:
                (y, x), r = (c * scale for c in reading.disc.centre), reading.disc.radius * scale
                draw.ellipse((x - r, y - r, x + r, y + r), outline=(0, 255, 0))
            if reading.fovea is not None:
                y, x = (c * scale for c in reading.fovea.centre)
                draw.line((x - 6, y, x + 6, y), fill=(0, 255, 255))
                draw.line((x, y - 6, x, y + 6), fill=(0, 255, 255))
            draw.text((3, 3), photo.stem, fill=(255, 255, 255))
            tiles.append(tile)
    whole = Image.new("RGB", (wide * side, -(-len(tiles) // wide) * side))
    for index, tile in enumerate(tiles):
        whole.paste(tile, (index % wide * side, index // wide * side))
    whole.save(out)


JUDGES: dict[str, Callable[[Maps, dict[str, list[Path]]], dict[str, Any]]] = {
    "eyes": judge_eyes,
    "discs": judge_discs,
    "vessels": judge_vessels,
    "lesions": judge_lesions,
    "repeats": judge_repeats,
    "quality": judge_quality,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="fundus2video-half")
    parser.add_argument("--cache", type=Path, default=Path("build/measuring"))
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--only", default=",".join(JUDGES))
    parser.add_argument("--out", type=Path, default=Path("docs/results/measuring.json"))
    arguments = parser.parse_args()
    maps, sets = Maps(arguments.cache, arguments.model), chosen()
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for name in arguments.only.split(","):
        results[name] = JUDGES[name](maps, sets)
        print(name, json.dumps(results[name], indent=1), flush=True)
        written(arguments.out, results)
    if arguments.sheet:
        draw_sheet(maps, sets, arguments.sheet)


if __name__ == "__main__":
    main()
