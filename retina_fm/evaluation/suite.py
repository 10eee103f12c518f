"""Suites: a TOML file that says which data sets there are, what is asked of them, and by which protocols."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from retina_fm.errors import ConfigError, nearest
from retina_fm.evaluation.manifest import Manifest, Row, folder_manifest, read_manifest
from retina_fm.evaluation.names import CLASSIFYING, PROTOCOLS
from retina_fm.evaluation.tasks import Task, classification_task, retrieval_task


@dataclass(frozen=True)
class Settings:
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

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    readings: tuple[str, ...] = ("untrained-head", "clusters", "nearest-patient")
    head: str = "mlp"
    folds: int = 5
    probe_seeds: tuple[int, ...] = (0,)
    ks: tuple[int, ...] = (1, 5, 10)
    bootstrap: int = 1000
    permutations: int = 1000
    vessel_shots: tuple[int, ...] = (0, 1, 2, 4, 8, 16)
    vessel_seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    vessel_steps: int = 400
    vessel_size: int = 512
    vessel_tests: int | None = None
    video_size: int = 256
    lpips: str | None = None
    fvd: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """From a table of a suite.

        Raises:
            ConfigError: a name is unknown.
        """
        known = {f.name for f in fields(cls)}
        for key in values:
            if key not in known:
                raise ConfigError(f"Unknown setting {key!r}. {nearest(key, known)}")
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return replace(cls(), **given)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


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
    """

    name: str
    root: Path
    settings: Settings
    sets: Mapping[str, Mapping[str, Any]]
    wanted: Mapping[str, Mapping[str, Any]]
    leaks: str = "refuse"
    _manifests: dict[str, Manifest] = field(default_factory=dict)

    def manifest(self, name: str) -> Manifest:
        """A data set, read on first use."""
        if name not in self.sets:
            raise ConfigError(f"The suite has no set {name!r}. {nearest(name, self.sets)}")
        if name not in self._manifests:
            said = self.sets[name]
            if "pairs" in said:
                found = _videos(self.root / said["pairs"], name)
            elif "table" in said:
                found = read_manifest(
                    self.root / said["table"], name=name, images=said.get("images", ""), keep=said.get("keep")
                )
            else:
                masks, inside = said.get("masks"), said.get("fields")
                found = folder_manifest(
                    self.root / said["images"],
                    self.root / masks if masks else None,
                    name=name,
                    fields=self.root / inside if inside else "",
                )
            if "cohort" in said:
                found = cohort_manifest(found, **said["cohort"])
            limit = said.get("limit")
            self._manifests[name] = replace(found, rows=found.rows[:limit]) if limit else found
        return self._manifests[name]

    def pairs_of(self, name: str) -> Path:
        """Where a set of videos has its ``pairs.csv``."""
        return self.root / str(self.sets[name]["pairs"])

    @cached_property
    def asked(self) -> list[Asked]:
        """All tasks, in the suite's order."""
        return [Asked(self._task(name, said), tuple(said["protocols"])) for name, said in self.wanted.items()]

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

    def _task(self, name: str, said: Mapping[str, Any]) -> Task:
        for protocol in said["protocols"]:
            if protocol not in PROTOCOLS:
                raise ConfigError(
                    f"Task {name}: unknown protocol {protocol!r}. {nearest(protocol, PROTOCOLS)}"
                )
        manifest = self.manifest(said["set"])
        if not set(said["protocols"]) & set(CLASSIFYING):
            return (
                retrieval_task(manifest, name)
                if "retrieval" in said["protocols"]
                else _all_rows(manifest, name)
            )
        return classification_task(
            manifest,
            name,
            label=said.get("label", "label"),
            positive=said.get("positive"),
            negative=said.get("negative"),
            official_split=said.get("split") == "official",
            unlabelled=said.get("unlabelled", "raise"),
        )


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
        said = _toml(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{source} cannot be read as a suite ({error}).") from None
    unknown = set(said) - {"name", "settings", "sets", "tasks", "leaks"}
    if unknown:
        raise ConfigError(
            f"{source}: unknown {sorted(unknown)}; known are name, settings, sets, tasks, leaks."
        )
    return Suite(
        name=said.get("name", source.stem),
        root=Path(root) if root is not None else source.parent,
        settings=Settings.from_dict(said.get("settings", {})),
        sets=said.get("sets", {}),
        wanted=said.get("tasks", {}),
        leaks=said.get("leaks", "refuse"),
    )


def manifest_suite(
    table: str | Path, protocols: tuple[str, ...], *, images: str = "", leaks: str = "refuse", **task: Any
) -> Suite:
    """The suite of one manifest and one question, from the command line.

    Args:
        table: the manifest.
        protocols: asked for.
        images: folder beside the table that paths are relative to.
        leaks: see :class:`Suite`.
        task: ``label``, ``positive``, ``negative``, ``split``, ``unlabelled`` as in a suite.
    """
    name = Path(table).resolve().parent.name
    said = {key: value for key, value in task.items() if value is not None}
    return Suite(
        name=name,
        root=Path(table).resolve().parent,
        settings=Settings(),
        sets={name: {"table": Path(table).name, "images": images}},
        wanted={name: {"set": name, "protocols": list(protocols), **said}},
        leaks=leaks,
    )


def _videos(pairs: Path, name: str) -> Manifest:
    from retina_fm.training.pairs.table import read_pairs

    rows = tuple(Row(s.name, Path(s.photo), s.patient_id or s.name) for s in read_pairs(pairs))
    table = pairs / "pairs.csv" if pairs.is_dir() else pairs
    return Manifest(name, rows, True, hashlib.sha256(table.read_bytes()).hexdigest())


def _all_rows(manifest: Manifest, name: str) -> Task:
    import numpy as np

    count = len(manifest.rows)
    patients = np.array([row.patient for row in manifest.rows])
    everything, none = np.arange(count), np.zeros(count, np.int64)
    return Task(name, manifest.name, manifest.rows, everything, (), none, patients, None, {}, manifest.sha256)


def _toml(text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:  # Python 3.10 has no reader of its own
        import tomli as tomllib
    return tomllib.loads(text)
