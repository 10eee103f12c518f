"""Sets with a diagnosis: APTOS-2019, IDRiD, MESSIDOR-2, PAPILA, Glaucoma Fundus, JSIEC, Retina, ODIR-5K."""

from __future__ import annotations

import re
from pathlib import Path

from retina_fm._io.tables import sheet_rows
from retina_fm.errors import LayoutError
from retina_fm.evaluation.datasets.layout import (
    Raw,
    Rows,
    by_stem,
    column,
    eye_of,
    maybe,
    one,
    pictures,
    relative,
    table,
)
from retina_fm.vocabulary import EYES

_ODIR = "NDGCAHMO"


def aptos_2019(folder: Path) -> Rows:
    """Kaggle's APTOS 2019: ``train.csv`` and ``train_images``; the test part has no labels."""
    labels = table(one(folder, "train.csv", "labels of the training part"))
    images = by_stem(one(folder, "train_images", "photographs"))
    rows: list[Raw] = []
    for row in labels:
        path = images.get(row.get("id_code", "").lower())
        if path is None:
            raise LayoutError(f"train.csv names {row.get('id_code')}, which is not in train_images.")
        rows.append({"path": path, "label": row["diagnosis"], "modality": "CF"})
    return relative(rows, folder)


def idrid(folder: Path) -> Rows:
    """IDRiD, part B: DR grade as label, ``dme_risk`` beside it, official parts; patients are not named."""
    rows: list[Raw] = []
    for part, letter, word in (("train", "a", "Training"), ("test", "b", "Testing")):
        sheet = one(folder, f"*Grading_{word} Labels.csv", f"labels of the {part} part")
        labels = table(sheet)
        name = column(labels, sheet, "Image name")
        grade, dme = (
            column(labels, sheet, "Retinopathy grade"),
            column(labels, sheet, "Risk of macular edema"),
        )
        grading = one(folder, "*Disease Grading", "part B")
        images = by_stem(one(grading, f"{letter}. {word} Set", f"photographs of the {part} part"))
        for row in labels:
            if not row[name]:
                continue  # the official sheets end in empty rows
            path = images.get(row[name].lower())
            if path is None:
                raise LayoutError(f"{sheet.name} names {row[name]}, which is not among the photographs.")
            found: Raw = {"path": path, "label": row[grade], "dme_risk": row[dme]}
            rows.append({**found, "split": part, "modality": "CF"})
    return relative(rows, folder)


def messidor_2(folder: Path) -> Rows:
    """MESSIDOR-2: ``IMAGES``, pairs of eyes in ``messidor-2.csv``, grades in ``messidor_data.csv``.

    The adjudicated grades are those of Krause et al. (2018), a download of their own; ungradable
    photographs are left out.
    """
    grades = table(one(folder, "messidor_data.csv", "adjudicated grades, a download of their own"))
    images = by_stem(one(folder, "IMAGES", "photographs"))
    patient: dict[str, tuple[str, str]] = {}
    pairs = maybe(folder, "messidor-2.csv")
    if pairs is not None:
        for number, line in enumerate(pairs.read_text(encoding="utf-8-sig").splitlines()):
            names = [Path(part.strip().strip('"')).stem.lower() for part in re.split("[;,]", line)]
            for name, eye in zip([n for n in names if n in images], EYES, strict=False):
                patient[name] = (f"pair{number:04d}", eye)
    rows: list[Raw] = []
    for row in grades:
        stem = Path(row.get("image_id", "")).stem.lower()
        if row.get("adjudicated_gradable", "1") not in ("1", "1.0") or not row.get("adjudicated_dr_grade"):
            continue
        if stem not in images:
            raise LayoutError(f"messidor_data.csv names {row.get('image_id')}, which is not in IMAGES.")
        who, eye = patient.get(stem, (stem, ""))
        rows.append(
            {
                "path": images[stem],
                "label": row["adjudicated_dr_grade"].removesuffix(".0"),
                "dme": row.get("adjudicated_dme", "").removesuffix(".0"),
                "patient_id": who,
                "eye": eye,
                "modality": "CF",
            }
        )
    return relative(rows, folder)


def papila(folder: Path) -> Rows:
    """PAPILA: ``FundusImages/RET002OD.jpg`` and a sheet an eye; 0 healthy, 1 glaucoma, 2 suspect."""
    images = by_stem(one(folder, "FundusImages", "photographs"))
    words = {"0": "healthy", "1": "glaucoma", "2": "suspect"}
    rows: list[Raw] = []
    for side in ("od", "os"):
        sheet = one(folder, f"patient_data_{side}.xlsx", "clinical data")
        cells = sheet_rows(sheet)
        heads = next((row for row in cells if any(c.lower() == "diagnosis" for c in row)), None)
        if heads is None:
            raise LayoutError(f"{sheet} has no column Diagnosis.")
        place = [c.lower() for c in heads].index("diagnosis")
        for row in cells:
            number = re.fullmatch(r"#(\d+)", row[0]) if row else None
            if number is None or len(row) <= place:
                continue
            path = images.get(f"ret{number.group(1)}{side}")
            if path is not None and row[place] in words:
                who = f"p{number.group(1)}"
                rows.append(
                    {
                        "path": path,
                        "label": words[row[place]],
                        "patient_id": who,
                        "eye": eye_of(side),
                        "modality": "CF",
                    }
                )
    if not rows:
        raise LayoutError(f"{folder}: no photograph has a diagnosis in the sheets.")
    return relative(sorted(rows, key=lambda row: str(row["path"])), folder)


def glaucoma_fundus(folder: Path) -> Rows:
    """Glaucoma Fundus (Ahn 2018): folders named normal, early and advanced, with or without parts."""
    words = ("normal", "early", "advanced")
    rows: list[Raw] = []
    for path in pictures(folder, deep=True):
        above = [part.lower() for part in path.relative_to(folder).parts[:-1]]
        label = next((w for part in reversed(above) for w in words if w in part), None)
        if label is None:
            raise LayoutError(f"{path} lies in no folder of normal, early or advanced glaucoma.")
        rows.append({"path": path, "label": label, "split": _part(above), "modality": "CF"})
    if not all(row["split"] for row in rows):
        rows = [{k: v for k, v in row.items() if k != "split"} for row in rows]
    return relative(rows, folder)


def jsiec(folder: Path) -> Rows:
    """JSIEC's 1,000 images: a folder a class, named ``0.0.Normal``, ``1.0.DR2``, and so on."""
    named = re.compile(r"(\d+\.\d+)\.? ?(.+)|(\d+)\.(.+)")
    rows: list[Raw] = [
        {"path": path, "label": path.parent.name, "modality": "CF"}
        for path in pictures(folder, deep=True)
        if named.match(path.parent.name)
    ]
    if not rows:
        raise LayoutError(f"{folder} has no class folders such as 0.0.Normal. Unpack 1000images.zip there.")
    return relative(rows, folder)


def retina(folder: Path) -> Rows:
    """Kaggle's Retina set: ``1_normal``, ``2_cataract``, ``2_glaucoma``, ``3_retina_disease``."""
    words = {
        "1_normal": "normal",
        "2_cataract": "cataract",
        "2_glaucoma": "glaucoma",
        "3_retina_disease": "retina",
    }
    rows: list[Raw] = [
        {"path": path, "label": label, "modality": "CF"}
        for name, label in words.items()
        for path in pictures(one(folder, name, "a class"))
    ]
    return relative(rows, folder)


def odir_5k(folder: Path) -> Rows:
    """ODIR-5K: the annotation sheet and a folder of photographs named ``12_left.jpg``.

    The flags of the sheet are a patient's. ``label`` is an eye's, read from its keywords where they decide:
    ``N`` for a normal fundus alone; otherwise the patient's diseases, for both eyes if both are diseased.
    Where both eyes are diseased, the sheet does not tell their flags apart.
    """
    sheet = maybe(folder, "*Annotations*.xlsx") or one(folder, "data.xlsx", "annotations")
    cells = sheet_rows(sheet)
    heads = [head.lower() for head in cells[0]]
    images = {path.name.lower(): path for path in pictures(folder, deep=True)}
    rows: list[Raw] = []
    for row in cells[1:]:
        said = dict(zip(heads, row, strict=False))
        flags = "|".join(letter for letter in _ODIR if said.get(letter.lower()) == "1")
        for eye in EYES:
            path = images.get(said.get(f"{eye}-fundus", "").lower())
            if path is None:
                continue
            keywords = said.get(f"{eye}-diagnostic keywords", "")
            rows.append(
                {
                    "path": path,
                    "label": "N" if re.fullmatch(r"normal fundus", keywords.strip().lower()) else flags,
                    "patient_label": flags,
                    "keywords": keywords,
                    "patient_id": said.get("id", ""),
                    "eye": eye,
                    "age": said.get("patient age", ""),
                    "sex": said.get("patient sex", ""),
                    "modality": "CF",
                }
            )
    if not rows:
        raise LayoutError(f"{sheet} names no photograph that lies under {folder}.")
    return relative(rows, folder)


def _part(above: list[str]) -> str:
    for part in above:
        for word, name in (("train", "train"), ("val", "val"), ("test", "test")):
            if part.startswith(word):
                return name
    return ""
