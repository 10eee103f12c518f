"""Which pictures of one or several data sets show one eye: across parts, across sets, without patient ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from retina_fm._io.files import write_bytes
from retina_fm._io.jobs import check_workers
from retina_fm._io.persons import persons
from retina_fm._io.tables import csv_bytes, inert
from retina_fm.errors import ConfigError, OutputError
from retina_fm.evaluation.leaks import find_repeats, read_prints
from retina_fm.evaluation.manifest import Manifest, Row
from retina_fm.evaluation.same_eyes import read_signatures, same_eyes
from retina_fm.indexes.gallery import ShownPair, save_pair_page
from retina_fm.signatures import FALSE_ACCEPTS, rate_in_words

SHOWN = 300
"""Pairs of a gallery, the first of the table."""
KINDS = ("same file", "same photograph", "same eye")


@dataclass(frozen=True)
class AuditedPair:
    """Two pictures that are taken for one eye.

    Attributes:
        kind: ``same file``; ``same photograph``, resized, recompressed, recoloured, mirrored or turned; or
            ``same eye``, another photograph of it.
        first_set: name of the set of one.
        first: its row.
        second_set: name of the set of the other.
        second: its row.
        likeness: correlation of their fingerprints where it is one photograph; else None.
        false_accept: how often two different eyes have signatures as alike, a comparison, no less than one
            in a million; None where the signatures did not tell.
        known: whether both have the same patient in one set, so that nothing is wrong with it.
    """

    kind: str
    first_set: str
    first: Row
    second_set: str
    second: Row
    likeness: float | None
    false_accept: float | None
    known: bool

    @property
    def crosses(self) -> tuple[str, ...]:
        """In what the two differ: ``set``, or in one set ``split`` and ``patient_id``; ``eye``, ``label``."""
        found = ["set"] if self.first_set != self.second_set else []
        one, other = self.first, self.second
        if not found and one.split and other.split and one.split != other.split:
            found.append("split")
        people = persons([_named(one), _named(other)])
        if found[:1] != ["set"] and None not in people and people[0] != people[1]:
            found.append("patient_id")
        found += [
            name
            for name in ("eye", "label")
            if getattr(one, name) and getattr(other, name) and getattr(one, name) != getattr(other, name)
        ]
        return tuple(found)

    @property
    def why(self) -> str:
        """In words."""
        if self.kind != "same eye" or self.false_accept is None:
            return self.kind
        return f"same eye (false accepts: {rate_in_words(self.false_accept)})"


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        pairs: by kind, those across parts and sets first, then the surest.
        pictures: that were compared, by set.
        without_signature: names of pictures in which no vessels are seen, by set; nothing but repeats can be
            told of them.
        comparisons: pairs of pictures whose signatures were compared.
        false_accepts: the rate that was asked for.
        expected_false: pairs of different eyes that are to be expected among the pairs.
    """

    pairs: list[AuditedPair]
    pictures: dict[str, int]
    without_signature: dict[str, list[str]]
    comparisons: int
    false_accepts: float
    expected_false: float


def audit(
    manifests: Sequence[Manifest],
    false_accepts: float = FALSE_ACCEPTS,
    *,
    turned: bool = True,
    cache: str | Path | None = None,
    workers: int | None = None,
    progress: bool | None = None,
) -> Audit:
    """Every pair of pictures that are one photograph, or show one eye, among all pictures of some sets.

    Args:
        manifests: the sets.
        false_accepts: rate a comparison, from one in a million to a tenth.
        turned: try one of each pair turned and zoomed, too.
        cache: folder of fingerprints and signatures; what lies there recognises persons. Nothing is kept
            without it.
        workers: processes that read signatures; one a core.
        progress: show a bar; only on a terminal when None.

    Raises:
        ConfigError: two sets of one name, a rate for which no threshold is known, or fewer than one worker.
        PictureError: a picture cannot be read.
    """
    check_workers(workers)
    names = [manifest.name for manifest in manifests]
    if len(set(names)) < len(names):
        raise ConfigError(f"The sets {names} need a name each; write NAME=TABLE to give one.")
    rows = [
        (manifest.name, row if manifest.has_patients else replace(row, patient=row.name))
        for manifest in manifests
        for row in manifest.rows
    ]
    paths = [row.path for _, row in rows]
    kept = None if cache is None else Path(cache)
    prints = read_prints(paths, kept / "prints.npz" if kept else None)
    signatures = read_signatures(
        paths, prints.hashes, kept / "signatures.npz" if kept else None, workers=workers, progress=progress
    )
    found = same_eyes(signatures, false_accepts, turned=turned)
    rates = {(pair.first, pair.second): pair.false_accept for pair in found.pairs}
    alike = {(repeat.first, repeat.second): repeat.likeness for repeat in find_repeats(prints)}
    pairs = []
    for one, other in sorted({*rates, *alike}):
        kind = "same photograph" if (one, other) in alike else "same eye"
        if prints.hashes[one] == prints.hashes[other]:
            kind = "same file"
        (first_set, first), (second_set, second) = rows[one], rows[other]
        people = persons([_named(first), _named(second)])
        pairs.append(
            AuditedPair(
                kind, first_set, first, second_set, second, alike.get((one, other)), rates.get((one, other)),
                first_set == second_set and None not in people and people[0] == people[1],
            )
        )  # fmt: skip
    without: dict[str, list[str]] = {name: [] for name in names}
    for number in found.without_signature:
        without[rows[number][0]].append(rows[number][1].name)
    return Audit(
        sorted(pairs, key=_order),
        {manifest.name: len(manifest.rows) for manifest in manifests},
        without,
        found.comparisons,
        found.false_accepts,
        found.expected_false,
    )


def pair_rows(found: Audit) -> list[dict[str, Any]]:
    """The pairs as plain values, for JSON and tables."""
    return [
        {
            "kind": pair.kind,
            "first_set": pair.first_set, "first": pair.first.name,
            "second_set": pair.second_set, "second": pair.second.name,
            "false_accept": pair.false_accept, "likeness": pair.likeness,
            "known": pair.known, "crosses": "|".join(pair.crosses),
            "first_split": pair.first.split, "second_split": pair.second.split,
            "first_label": pair.first.label, "second_label": pair.second.label,
        }
        for pair in found.pairs
    ]  # fmt: skip


def write_pairs(found: Audit, path: str | Path) -> Path:
    """A CSV, one row a pair.

    Raises:
        OutputError: it cannot be written.
    """
    rows = pair_rows(found)
    columns = list(rows[0]) if rows else ["kind", "first_set", "first", "second_set", "second"]
    cells = [["" if row[name] is None else inert(_short(row[name])) for name in columns] for row in rows]
    try:
        write_bytes(Path(path), csv_bytes(columns, cells))
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}).") from error
    return Path(path)


def save_audit_gallery(found: Audit, path: str | Path) -> Path:
    """A page (``.html``) with a row a pair, without those of a known patient; 300 at most, and it says so."""
    pairs = [pair for pair in found.pairs if not pair.known]
    shown = [
        ShownPair(
            pair.why, str(pair.first.path), _lines(pair, pair.first_set, pair.first),
            str(pair.second.path), _lines(pair, pair.second_set, pair.second),
        )
        for pair in pairs[:SHOWN]
    ]  # fmt: skip
    more = f" (the first {SHOWN} of {len(pairs):,} pairs)" if len(pairs) > SHOWN else ""
    return save_pair_page(shown, path, f"Pictures of one eye{more}")


def _lines(pair: AuditedPair, name: str, row: Row) -> list[str]:
    said = {"set": name, "split": row.split, "label": row.label, "crosses": ", ".join(pair.crosses)}
    return [row.name, *(f"{key}: {value}" for key, value in said.items() if value)]


def in_words(found: Audit) -> list[str]:
    """What an audit found, a line each: by kind, what crosses, what is to be expected by chance."""
    fresh = [pair for pair in found.pairs if not pair.known]
    lines = [", ".join(f"{name}: {count} pictures" for name, count in found.pictures.items())]
    for kind in KINDS:
        some = [pair for pair in fresh if pair.kind == kind]
        crossing = [
            f"{count} across {column}s" if column in ("set", "split") else f"{count} of another {column}"
            for column in ("set", "split", "patient_id", "label")
            if (count := sum(column in pair.crosses for pair in some))
        ]
        lines.append(f"{len(some)} pairs: {kind}" + (f" ({', '.join(crossing)})" if crossing else ""))
    if known := len(found.pairs) - len(fresh):
        lines.append(f"{known} pairs more are of a patient whom the table names for both")
    refused = ", ".join(f"{len(some)} of {name}" for name, some in found.without_signature.items() if some)
    lines.append(
        f"{found.comparisons:,} comparisons at {rate_in_words(found.false_accepts)}: "
        f"{found.expected_false:.1f} pairs of different eyes are to be expected"
    )
    lines.append(f"no vessels are seen, so nothing is said of their eyes: {refused or 'none'}")
    return lines


def _named(row: Row) -> str | None:
    return None if row.patient == row.name else row.patient


def _order(pair: AuditedPair) -> tuple[Any, ...]:
    return (
        pair.known, KINDS.index(pair.kind), not {"set", "split"} & set(pair.crosses),
        1.0 if pair.false_accept is None else pair.false_accept, pair.first.name, pair.second.name,
    )  # fmt: skip


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
