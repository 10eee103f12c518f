"""Suites: a TOML file that says which data sets there are, what is asked of them, and by which protocols."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from retina_fm._io.persons import is_nobody
from retina_fm.configuration import Configuration, parse_toml
from retina_fm.errors import ConfigError, nearest
from retina_fm.evaluation.manifest import Manifest, Row, folder_manifest, read_manifest
from retina_fm.evaluation.names import CLASSIFYING, PROTOCOLS
from retina_fm.evaluation.tasks import Task, classification_task, retrieval_task

Numbers = Annotated[tuple[int, ...], Field(strict=False)]
Words = Annotated[tuple[str, ...], Field(strict=False)]


class Settings(Configuration):
    """How often and how finely things are done.

    Attributes:
        seeds: of the draws.
        shots: examples a class.
        readings: of zero-shot classification.
        head: of few-shot and supervised runs: ``mlp`` is the paper's.
        folds: of the probe without an official split.
        probe_seeds: divisions into folds.
        ks: of Recall@K.
        bootstrap: samples of patients.
        permutations: of the paired test.
        vessel_shots: pictures that vessels are learnt from.
        vessel_seeds: of these draws.
        vessel_steps: of training a draw.
        vessel_size: of the views that vessels are learnt on.
        video_size: of the views that videos are compared in.
        lpips: file with torchvision's AlexNet.
        fvd: file of the I3D network, and its SHA-256.
        vessel_tests: pictures judged a draw at most, the first of the set that were not drawn.
    """

    seeds: Numbers = (0, 1, 2, 3, 4)
    shots: Numbers = (1, 2, 4, 8, 16)
    readings: Words = ("untrained-head", "clusters", "nearest-patient")
    head: str = "mlp"
    folds: int = 5
    probe_seeds: Numbers = (0,)
    ks: Numbers = (1, 5, 10)
    bootstrap: int = 1000
    permutations: int = 1000
    vessel_shots: Numbers = (0, 1, 2, 4, 8, 16)
    vessel_seeds: Numbers = (0, 1, 2, 3, 4)
    vessel_steps: int = 400
    vessel_size: int = 512
    vessel_tests: int | None = None
    video_size: int = 256
    lpips: str | None = None
    fvd: Words = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return self.model_dump(mode="json")


class Cohort(Configuration):
    """A cohort of UK Biobank; see :func:`retina_fm.evaluation.datasets.uk_biobank.systemic_cohort`."""

    outcome: str
    years: int | float = 5
    end: str
    seed: int = 0


class SetSource(Configuration):
    """Where a data set is; paths are relative to the suite.

    Attributes:
        table: a manifest.
        images: folder beside the manifest that its paths are relative to, or a folder of pictures.
        keep: only rows of the manifest whose columns hold these values.
        masks: folder of masks with the pictures' stems.
        fields: folder of fields of view with the pictures' stems.
        pairs: folder or table of paired videos.
        union: names of other sets, whose pictures are one set: retrieval asks each of them among all.
        cohort: of UK Biobank, labelled by its rules.
        limit: the first rows alone.
    """

    table: str | None = None
    images: str = ""
    keep: dict[str, str | int | float | bool] | None = None
    masks: str | None = None
    fields: str | None = None
    pairs: str | None = None
    union: Words = ()
    cohort: Cohort | None = None
    limit: int | None = None

    @model_validator(mode="after")
    def _is_somewhere(self) -> SetSource:
        if not (self.table or self.images or self.pairs or self.union):
            raise ValueError("a set needs a table, images, pairs or a union of other sets")
        return self


class Question(Configuration):
    """What is asked of a set.

    Attributes:
        set: name of the data set.
        protocols: by which it is judged.
        label: column of labels.
        positive: labels of the second class.
        negative: labels of the first class.
        split: ``official`` takes the column ``split``; draws decide otherwise.
        unlabelled: ``skip`` leaves rows without a label out.
    """

    set: str
    protocols: Words
    label: str = "label"
    positive: Words | None = None
    negative: Words | None = None
    split: Literal["official", "drawn"] = "drawn"
    unlabelled: Literal["raise", "skip"] = "raise"

    @field_validator("protocols")
    @classmethod
    def _are_known(cls, protocols: tuple[str, ...]) -> tuple[str, ...]:
        for protocol in protocols:
            if protocol not in PROTOCOLS:
                raise ValueError(f"unknown protocol {protocol!r}. {nearest(protocol, PROTOCOLS)}")
        return protocols


class SuiteFile(Configuration):
    """A suite as written in TOML.

    Attributes:
        name: of the suite; the file's without it.
        settings: of the protocols.
        sets: data sets by name.
        tasks: what is asked of them, by name.
        leaks: ``refuse`` or ``allow`` repeats across official parts.
        same_eyes: look for other photographs of an eye in sets that name no patients.
    """

    name: str | None = None
    settings: Settings = Settings()
    sets: dict[str, SetSource] = Field(default_factory=dict)
    tasks: dict[str, Question] = Field(default_factory=dict)
    leaks: Literal["refuse", "allow"] = "refuse"
    same_eyes: bool = True


@dataclass(frozen=True)
class Asked:
    """A task and the protocols that it is judged by."""

    task: Task
    protocols: tuple[str, ...]


@dataclass
class Suite:
    """Data sets and what is asked of them.

    Attributes:
        name: of the suite.
        root: folder that its paths are relative to.
        settings: of the protocols.
        sets: descriptions by name.
        wanted: descriptions of tasks by name.
        leaks: ``refuse`` or ``allow`` repeats across official parts.
        same_eyes: look for other photographs of an eye in sets that name no patients.
    """

    name: str
    root: Path
    settings: Settings
    sets: Mapping[str, SetSource]
    wanted: Mapping[str, Question]
    leaks: str = "refuse"
    same_eyes: bool = True
    _manifests: dict[str, Manifest] = field(default_factory=dict)

    def manifest(self, name: str) -> Manifest:
        """A data set, read on first use."""
        if name not in self.sets:
            raise ConfigError(f"The suite has no set {name!r}. {nearest(name, self.sets)}")
        if name not in self._manifests:
            parts = self.sets[name].union
            if name in parts:
                raise ConfigError(f"The set {name!r} is a union with itself; name other sets.")
            if parts:
                self._manifests[name] = union_manifest(name, [self.manifest(part) for part in parts])
            else:
                self._manifests[name] = _read_set(self.root, name, self.sets[name])
        return self._manifests[name]

    def pairs_of(self, name: str) -> Path:
        """Where a set of videos has its ``pairs.csv``."""
        return self.root / str(self.sets[name].pairs)

    @cached_property
    def asked(self) -> list[Asked]:
        """All tasks, in the suite's order."""
        return [Asked(self._task(name, said), said.protocols) for name, said in self.wanted.items()]

    def asked_by(self, protocols: Iterable[str] | None) -> list[Asked]:
        """The tasks that are asked by some protocols; all without them.

        Raises:
            ConfigError: none is.
        """
        wanted = PROTOCOLS if protocols is None else tuple(protocols)
        asked = [Asked(one.task, tuple(p for p in one.protocols if p in wanted)) for one in self.asked]
        if not any(one.protocols for one in asked):
            raise ConfigError(f"The suite {self.name} asks nothing by {sorted(wanted)}.")
        return [one for one in asked if one.protocols]

    def _task(self, name: str, said: Question) -> Task:
        manifest = self.manifest(said.set)
        if "retrieval" in said.protocols and not set(said.protocols) & set(CLASSIFYING):
            return retrieval_task(manifest, name)
        if not set(said.protocols) & set(CLASSIFYING):
            return _all_rows(manifest, name)
        return classification_task(
            manifest,
            name,
            label=said.label,
            positive=said.positive,
            negative=said.negative,
            official_split=said.split == "official",
            unlabelled=said.unlabelled,
        )


def _read_set(root: Path, name: str, said: SetSource) -> Manifest:
    if said.pairs:
        found = _videos(root / said.pairs, name)
    elif said.table:
        found = read_manifest(root / said.table, name=name, images=said.images, keep=said.keep)
    else:
        masks = root / said.masks if said.masks else None
        fields = root / said.fields if said.fields else ""
        found = folder_manifest(root / said.images, masks, name=name, fields=fields)
    if said.cohort:
        found = cohort_manifest(found, **said.cohort.model_dump(exclude_unset=True))
    return replace(found, rows=found.rows[: said.limit]) if said.limit else found


def union_manifest(name: str, parts: Sequence[Manifest]) -> Manifest:
    """Several sets as one: names and patients with their set's name before them, in a column ``set``, too."""
    rows = []
    for part in parts:
        for row in part.rows:
            own = f"{part.name}/{row.name}"
            patient = (
                own if row.patient == row.name or not part.has_patients else f"{part.name}/{row.patient}"
            )
            rows.append(replace(row, name=own, patient=patient, columns={**row.columns, "set": part.name}))
    digest = hashlib.sha256(repr([(part.name, part.sha256) for part in parts]).encode()).hexdigest()
    return Manifest(name, tuple(rows), any(part.has_patients for part in parts), digest)


def cohort_manifest(manifest: Manifest, **cohort: Any) -> Manifest:
    """The rows of a cohort of UK Biobank, labelled; see :func:`systemic_cohort` for what ``cohort`` holds."""
    from retina_fm.evaluation.datasets.uk_biobank import systemic_cohort

    label = {
        row["path"]: row["label"] for row in systemic_cohort([r.columns for r in manifest.rows], **cohort)
    }
    rows = tuple(
        replace(row, label=label[row.name], columns={**row.columns, "label": label[row.name]})
        for row in manifest.rows
        if row.name in label
    )
    digest = hashlib.sha256(repr((manifest.sha256, sorted(cohort.items()))).encode()).hexdigest()
    return replace(manifest, rows=rows, sha256=digest)


def read_suite(path: str | Path, root: str | Path | None = None) -> Suite:
    """Read a suite.

    Args:
        path: TOML with ``[settings]``, ``[sets.NAME]`` and ``[tasks.NAME]``; see ``docs/evaluation.md``.
        root: folder of the data; the suite's own without it.

    Raises:
        ConfigError: it cannot be read, or says something unknown.
    """
    source = Path(path)
    try:
        said = parse_toml(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{source} cannot be read as a suite ({error}).") from None
    try:
        file = SuiteFile.model_validate(said)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    return Suite(
        name=file.name or source.stem,
        root=Path(root) if root is not None else source.parent,
        settings=file.settings,
        sets=file.sets,
        wanted=file.tasks,
        leaks=file.leaks,
        same_eyes=file.same_eyes,
    )


def manifest_suite(
    table: str | Path, protocols: tuple[str, ...], *, images: str = "", leaks: str = "refuse",
    same_eyes: bool = True, **task: Any,
) -> Suite:  # fmt: skip
    """The suite of one manifest and one question, from the command line.

    Args:
        table: the manifest.
        protocols: asked for.
        images: folder beside the table that paths are relative to.
        leaks: see :class:`Suite`.
        same_eyes: see :class:`Suite`.
        task: ``label``, ``positive``, ``negative``, ``split``, ``unlabelled`` as in a suite.
    """
    name = Path(table).resolve().parent.name
    said = {key: value for key, value in task.items() if value is not None}
    return Suite(
        name=name,
        root=Path(table).resolve().parent,
        settings=Settings(),
        sets={name: SetSource(table=Path(table).name, images=images)},
        wanted={name: Question(set=name, protocols=protocols, **said)},
        leaks=leaks,
        same_eyes=same_eyes,
    )


def _videos(pairs: Path, name: str) -> Manifest:
    from retina_fm.training.pairs.table import read_pairs, table_of

    rows = tuple(
        Row(s.name, Path(s.photo), s.name if is_nobody(s.patient_id) else s.patient_id)
        for s in read_pairs(pairs)
    )
    return Manifest(name, rows, True, hashlib.sha256(table_of(pairs).read_bytes()).hexdigest())


def _all_rows(manifest: Manifest, name: str) -> Task:
    import numpy as np

    count = len(manifest.rows)
    patients = np.array([row.patient for row in manifest.rows])
    everything, none = np.arange(count), np.zeros(count, np.int64)
    return Task(name, manifest.name, manifest.rows, everything, (), none, patients, None, {}, manifest.sha256)
