"""The lines of code under each panel of the demonstration: what made it; a test runs them again."""

from __future__ import annotations

from pathlib import Path

from retina_fm.cli.work.demo_panels import FewShots, Similar
from retina_fm.cli.work.demo_photos import LABELS, Photos


def code_of_eye(photo: str, model: str, *, maps: bool, frames: bool, dtype: str | None) -> str:
    """Vessels, lesions and the angiogram of a photo.

    Args:
        photo: its path, as it is to be written.
        model: its name.
        maps: whether the model has maps of lesions.
        frames: whether it generates.
        dtype: that frames were computed in, as ``torch`` calls it; None for the weights' own.
    """
    reads = ["lesion_maps"] * maps + ["vessel_maps"] * frames
    lines = ["import retina_fm"]
    if frames and dtype:
        lines.append("import torch")
    if reads:
        lines.append(f"from retina_fm.adapters import {', '.join(reads)}")
    lines += ["", f"photo, model = {photo!r}, {model!r}"]
    if frames:
        lines.append("vessels = vessel_maps([photo], model)[0]  # float32 (H, W)")
    if maps:
        lines.append("lesions = lesion_maps([photo], model)[0]  # by type, float32 (H, W)")
    if frames:
        more = f", dtype=torch.{dtype}" if dtype else ""
        lines.append(f"angiogram = retina_fm.generate(photo, model{more})  # 12 frames")
    return "\n".join(lines)


def code_of_similar(photos: Photos, query: str, model: str, similar: Similar) -> str:
    """The index, a search, and the first Recall."""
    lines = ["import retina_fm", ""]
    if photos.drawn:
        folder = Path(query).parent.as_posix()
        lines.append(
            f"index = retina_fm.index('{folder}/patient*.png', {model!r}, metadata='{folder}/{LABELS}')"
        )
    elif photos.rows:
        lines.append("# photos: paths; rows: a dictionary a photo, of your table")
        lines.append(f"index = retina_fm.index(photos, {model!r}, metadata=rows)")
    else:
        lines.append("# photos: paths")
        lines.append(f"index = retina_fm.index(photos, {model!r})")
    lines.append(f"hits = index.search({query!r}, k=3, space={similar.space!r})")
    if similar.recalls:
        first = similar.recalls[0]
        if "other eye" in first.sought:
            lines.append(f"recall = index.evaluate_pairs('patient_id', [{first.k}], modality='eye')")
        else:
            column = "eye_id" if "same eye" in first.sought else "patient_id"
            lines += [
                f"names = index.metadata[{column!r}].to_pylist()",
                "asked = [p for p, name in zip(index.paths, names) if name and names.count(name) > 1]",
            ]
            lines += [
                f"found = index.search(asked, k={first.k}, space={first.space!r})",
                f"right = [hits[0].metadata[{column!r}] == hits.metadata[{column!r}] for hits in found]",
                "recall = sum(right) / len(right)",
            ]
    return "\n".join(lines)


def code_of_few(few: FewShots) -> str:
    """A head over the embeddings of the index, for the first draw."""
    positive = few.classes[1]
    columns = (few.column, "patient_id") if few.patients else (few.column,)
    names = ("labels", "patients")[: len(columns)]
    lines = ["from retina_fm.adapters import LinearClassifier, draw_examples", ""]
    lines += [f"{name} = index.metadata[{c!r}].to_numpy()" for name, c in zip(names, columns, strict=True)]
    embeddings, groups = "index.embeddings", ", groups=patients" * few.patients
    if few.others:
        both = "all(known) and known[0]" if few.patients else "known[0]"
        lines.append(f"keep = [{both} in {few.classes!r} for known in zip({', '.join(names)})]")
        lines += [f"{name} = {name}[keep]" for name in names]
        embeddings += "[keep]"
    lines += [
        f"embeddings = {embeddings}",
        f"draw = draw_examples(labels, {few.shots}, seed=0{groups})",
        "head = LinearClassifier().fit(embeddings[draw.drawn], labels[draw.drawn])",
        f"scores = head.predict_proba(embeddings[draw.rest])[:, list(head.classes_).index({positive!r})]",
    ]
    return "\n".join(lines)
