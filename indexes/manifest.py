"""``manifest.json``: the one file that says what an index consists of. To replace it is to commit."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import retina_fm
from retina_fm._io.files import write_json
from retina_fm.errors import IndexDamagedError, IndexMismatchError, IndexNotFoundError
from retina_fm.indexes.parts import Part

FILE = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class ModelIdentity:
    """What made the embeddings.

    Attributes:
        reference: name or folder under which it was loaded.
        name: as its weights call it.
        weights_sha256: of what determines its features.
        transform_hash: of photo to view.
    """

    reference: str
    name: str
    weights_sha256: str
    transform_hash: str

    def difference(self, other: ModelIdentity) -> str | None:
        """In what the two differ, in words; None where they make the same embeddings."""
        if self.weights_sha256 != other.weights_sha256:
            mine, others = self.weights_sha256[:12], other.weights_sha256[:12]
            return f"weights {mine} of {self.name}, not {others} of {other.name}"
        if self.transform_hash != other.transform_hash:
            return f"transform {self.transform_hash}, not {other.transform_hash}"
        return None


@dataclass(frozen=True)
class Manifest:
    """The state of an index.

    Attributes:
        metric: ``cosine`` or ``dot``.
        dimension: of the embeddings, D; 0 before there are any.
        dtype: in which embeddings are kept, ``float32`` or ``float16``.
        model: what made them; None for embeddings of the caller's own.
        whiten: whether whitening is applied at search.
        parts: in the order of their rows.
        removed: name of the file of removed ids, or None.
        metadata: name of the metadata's file, or None.
        whitening: name of the whitening's file, or None.
        files: SHA-256 of the three files above, by name.
        next_id: of the next row; ids are never used twice.
        count: rows that can be found.
        generation: counts commits.
        recall: of approximate against exact search, measured when it was built.
    """

    metric: str = "cosine"
    dimension: int = 0
    dtype: str = "float32"
    model: ModelIdentity | None = None
    whiten: bool = False
    parts: tuple[Part, ...] = ()
    removed: str | None = None
    metadata: str | None = None
    whitening: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    next_id: int = 0
    count: int = 0
    generation: int = 0
    recall: dict[str, Any] | None = None

    def with_changes(self, **changes: Any) -> Manifest:
        """A copy with some fields replaced."""
        return replace(self, **changes)


def read_manifest(store: Path) -> Manifest:
    """Read and check.

    Raises:
        IndexNotFoundError: there is no index here.
        IndexDamagedError: the file cannot be understood.
        IndexMismatchError: a newer release wrote it.
    """
    path = store / FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise IndexNotFoundError(
            f"{store} holds no index ({FILE} is missing). 'retina-fm index FOLDER --store {store}' makes one."
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise IndexDamagedError(f"{path} cannot be read ({error}). Build the index again.") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else None
        raise IndexMismatchError(
            f"{path} has format {found!r}, this release reads {FORMAT}; upgrade retina_fm or build it again."
        )
    try:
        model = ModelIdentity(**values["model"]) if values["model"] else None
        known = {k: v for k, v in values.items() if k in Manifest.__dataclass_fields__}
        parts = tuple(Part.from_dict(part) for part in values["parts"])
        return Manifest(**{**known, "model": model, "parts": parts})
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise IndexDamagedError(f"{path} lacks or garbles {error}. Build the index again.") from None


def write_manifest(store: Path, manifest: Manifest) -> None:
    """Commit: the old state or the new one, never a mix."""
    values = {
        "format": FORMAT,
        "retina_fm_version": retina_fm.__version__,
        **manifest.__dict__,
        "model": manifest.model.__dict__ if manifest.model else None,
        "parts": [part.as_dict() for part in manifest.parts],
    }
    write_json(store / FILE, values)
