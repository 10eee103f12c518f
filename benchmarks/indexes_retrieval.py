"""Real photographs: an index built, brought up to date and judged by patient, with and without whitening.

``RETINA_FM_TEST_DATA=... python benchmarks/indexes_retrieval.py MODEL --work DIR --out FILE.json``
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

from PIL import Image, ImageEnhance
from timing import taken

import retina_fm
from retina_fm.indexes import ImageIndex

SETS = ("odir_dev", "rahim_dev")


def judged(index: ImageIndex) -> dict[str, Any]:
    report = index.evaluate("patient_id", (1, 5, 10)).as_dict()
    return {key: {k: round(v, 3) for k, v in value.items()} if isinstance(value, dict) else value
            for key, value in report.items()}  # fmt: skip


def updated(folder: Path, model: str, metadata: Path | None) -> dict[str, Any]:
    with taken() as whole:
        index = retina_fm.index(folder, model, metadata=metadata, progress=False)
    report = {key: value for key, value in index.report.__dict__.items() if key != "skipped"}
    return {**report, "seconds": round(whole.seconds, 2)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sets", default=",".join(SETS))
    arguments = parser.parse_args()
    data = Path(os.environ["RETINA_FM_TEST_DATA"])
    results: dict[str, Any] = {"model": retina_fm.load(arguments.model).name}
    for name in arguments.sets.split(","):
        folder = arguments.work / name
        if not folder.exists():
            shutil.copytree(data / name / "images", folder / "images")
            shutil.copy(data / name / "labels.csv", folder)
        photos, labels = folder / "images", folder / "labels.csv"
        result: dict[str, Any] = {"built": updated(photos, arguments.model, labels)}
        store = photos / ".retina-fm-index"
        before = {p: p.stat().st_mtime_ns for p in store.rglob("*")}
        result["again"] = updated(photos, arguments.model, None)
        result["files that the second run touched"] = len(
            {p for p in store.rglob("*") if before.get(p) != p.stat().st_mtime_ns}
        )
        result["whitened"] = (
            judged(ImageIndex.open(store)) if ImageIndex.open(store).manifest.whiten else None
        )
        result["as it is"] = judged(ImageIndex.open(store, whiten=False))
        with taken() as opening:
            index = ImageIndex.open(store)
            index.search(sorted(photos.glob("*.jpg"))[0], 10, exclude_same="path")
        result["open and search, seconds"] = round(opening.seconds, 3)
        result["exact duplicates"] = sum(pair.same_file for pair in index.duplicates())
        files = sorted(photos.glob("*.jpg"))
        for number in range(10):
            picture = ImageEnhance.Brightness(Image.open(files[number])).enhance(0.8)
            picture.save(photos / f"added {number}.jpg")
        for path in files[20:23]:
            path.unlink()
        ImageEnhance.Brightness(Image.open(files[30])).enhance(0.7).save(files[30])
        result["ten added, three removed, one changed"] = updated(photos, arguments.model, None)
        result["verify"] = ImageIndex.open(store).verify()
        results[name] = result
        print(name, json.dumps(result, indent=1), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
