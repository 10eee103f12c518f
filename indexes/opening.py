"""``retina_fm.index``: from photos or embeddings to something that can be searched."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import torch

from retina_fm._io.parquet_seals import check_parquet
from retina_fm._io.pseudonyms import pseudonyms_of
from retina_fm.encoding.tagging import STATED
from retina_fm.errors import ConfigError, IndexMismatchError, IndexNotFoundError, RetinaError
from retina_fm.indexes import database, old_format, updating
from retina_fm.indexes.image_index import ImageIndex
from retina_fm.indexes.lance_places import LancePlace, lance_place
from retina_fm.indexes.models import basis_of, identity_of, require_same, whitening_of
from retina_fm.indexes.parquet_vectors import ParquetVectors
from retina_fm.indexes.queries import are_embeddings
from retina_fm.indexes.space import METRICS, Space
from retina_fm.indexes.state import Manifest, ModelIdentity, empty_state, stored_path
from retina_fm.models import Model, Whitening, by_name
from retina_fm.pictures.tags import COLUMNS

logger = logging.getLogger("retina_fm")

DEFAULT_STORE = ".retina-fm-index"
"""Folder of the index that lies in a folder of photos."""
_OF_ENCODING = ("path", "embedding", "signature", "width", "height", "fov_y", "fov_x", "fov_radius",
                "fov_circle", "file_size", "file_mtime_ns")  # fmt: skip


class _Default(str):
    """The model that nobody asked for, so that plain embeddings have none."""


DEFAULT_MODEL: str = _Default("fundus2video")


def index(
    photos: Any,
    model: Model | None = DEFAULT_MODEL,
    *,
    metric: str = "cosine",
    store: str | Path | None = None,
    metadata: Any = None,
    paths: Sequence[str] | None = None,
    whiten: bool | None = None,
    vectors: Literal["float32", "float16"] | None = None,
    signature: bool | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    wait: float = 0.0,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    progress: bool | None = None,
    compile: bool | None = None,  # noqa: A002  the word that torch and its users know
    pseudonymise: str | Path | None = None,
) -> ImageIndex:
    """Build an index, or open it and bring it up to date.

    New photos and changed ones (by size and time, then by content) are encoded; files that were only touched,
    renamed or copied are not; rows whose file is gone are dropped. A killed call continues where it was.

    Args:
        photos: as :func:`retina_fm.encode` takes many; embeddings ``(N, D)`` (a float array of rank 2); or a
            ``.parquet`` file with the columns ``path`` and ``embedding``, as ``encode_to`` writes it, whose
            further columns become metadata.
        model: name, weights folder or loaded encoder; for plain embeddings None, or what made them. Without
            it, that of the index or the table that is there, else ``fundus2video``. A table's own model lends
            its whitening where it is on this machine; otherwise a line of the log says that it is missing.
        metric: ``cosine`` or ``dot``.
        store: folder of the index; or ``lance://FOLDER`` or ``lance://URL`` (``lance://s3://bucket/path``)
            for one in LanceDB (extra ``lance``), which answers the same. Without it, a folder of photos gets
            it in ``.retina-fm-index`` inside, and anything else is indexed in memory.
        metadata: CSV or Parquet file, data frame, list of dictionaries or mapping, with a column ``path``
            (relative to the file, or to the folder of photos); without it, one row a picture in order.
            Columns that it does not have stay as they are.
        paths: names of embeddings; row numbers without it.
        whiten: apply the whitening that ships with the model, with ``cosine``; None does so where there is
            one. Embeddings are kept as the model gave them either way.
        vectors: type in which embeddings are kept; ``float16`` halves the disk and rounds scores. None is
            that of the index that is there, else ``float32``.
        signature: keep the signature of each photo, so that ``space="signature"`` and ``"retrieval"`` find
            the same eye. A signature recognises a person; False leaves it out. None keeps it in a new index
            of photos whose model reads signatures.
        on_error: ``"skip"`` leaves out photos that cannot be read; they are tried again next time.
        wait: seconds to wait for another writer.
        device: see :func:`retina_fm.encode`.
        dtype: see :func:`retina_fm.encode`.
        batch_size: see :func:`retina_fm.encode`.
        workers: see :func:`retina_fm.encode`.
        progress: see :func:`retina_fm.encode`.
        compile: see :func:`retina_fm.encode`.
        pseudonymise: a key file: patients' ids, by metadata or by files, are kept as pseudonyms. See
            :func:`retina_fm.encode_to`. Later changes need the same key.

    Returns:
        The index; ``.report`` says what was done.

    Raises:
        IndexMismatchError: the store was made with another model, transform, metric, dimension or type.
        IndexDamagedError: files of the store are cut or missing.
        NoPicturesError: a folder without pictures.
        PictureError: a photo cannot be read (``on_error="raise"``); what was finished is kept.
        OutputError: another process writes, or the disk is full.
        ConfigError: an argument makes no sense.
    """
    model, table = None if model is None else by_name(model), None
    if isinstance(photos, str | os.PathLike) and Path(photos).suffix.lower() == ".parquet":
        table = Path(photos)
    plain = are_embeddings(photos) or table is not None
    if not plain and model is None:
        raise ConfigError("model=None goes with embeddings (N, D); photos need a model.")
    if (not plain or table is not None) and paths is not None:
        raise ConfigError("paths= names embeddings; photos and tables have their own paths.")
    if vectors not in (None, "float32", "float16"):
        raise ConfigError(f"vectors is {vectors!r}; use 'float32' or 'float16'.")
    Space(metric)  # refuses an unknown one
    pseudonyms = pseudonyms_of(pseudonymise)
    stated = None if table is None else hidden_by(table)
    if stated is not None and pseudonyms is not None and stated != pseudonyms.fingerprint:
        raise ConfigError(f"{table} holds pseudonyms by another key. Pass the key that it was made with.")
    if whiten and metric != "cosine":
        raise ConfigError(f"Whitening goes with metric='cosine', not with {metric!r}.")
    place = _place(photos, store, plain)
    folder = place.folder if isinstance(place, LancePlace) else place
    of_model = {"device": device, "dtype": dtype}
    there = find(place, of_model) if place is not None else None
    whitening: Whitening | None = None
    if isinstance(model, _Default) and (there is not None or plain):
        identity = made_by(table) if table is not None else None
        if there is not None and not plain:
            identity = there.manifest.model
        elif there is None and identity is not None and metric == "cosine" and whiten is not False:
            whitening = _whitening_of_table(identity, asked_for=bool(whiten))
    else:
        identity, whitening = identity_of(model) if model is not None else (None, None)
    if metric != "cosine":
        whitening = None
    if there is not None:
        require_same(there.manifest.model, identity)
        if there.manifest.metric != metric:
            raise IndexMismatchError(
                f"The index {place} was made with metric={there.manifest.metric!r}, not {metric!r}; use it, "
                "or another store."
            )
        if vectors is not None and vectors != there.manifest.dtype:
            raise IndexMismatchError(
                f"The index {place} keeps embeddings as {there.manifest.dtype}, not as {vectors}; leave "
                "vectors= out, or use another store."
            )
        if whiten is not None and whiten != there.manifest.whiten:
            raise IndexMismatchError(
                f"The index {place} was made with whiten={there.manifest.whiten}; "
                f"ImageIndex.open(..., whiten={whiten}) searches it the other way."
            )
        if signature is not None and signature != (there.manifest.signature is not None):
            raise IndexMismatchError(
                f"The index {place} holds {'no ' if signature else ''}signatures. "
                + ("Build it again in another store." if signature else "forget_signatures() deletes them.")
            )
        found = there
        if model is not None and not isinstance(model, str):
            found._model = model
    else:
        if whiten and whitening is None:
            raise ConfigError("whiten=True, but the model ships no whitening.")
        basis = None
        if signature is not False and not plain and model is not None:
            basis = basis_of(model)
        if signature and basis is None:
            raise ConfigError(
                "signature=True goes with photos and a model of Fundus2Video, which reads them."
            )
        manifest = Manifest(
            metric=metric,
            dtype=vectors or "float32",
            model=identity,
            whiten=whitening is not None and whiten is not False,
            signature=None if basis is None else basis.hash,
            pseudonyms=stated if pseudonyms is None else pseudonyms.fingerprint,
        )
        found = ImageIndex(
            empty_state(manifest, whitening, basis),
            place=place,
            model=model if not isinstance(model, str) else None,
            settings=of_model,
        )
    given = photos
    metadata_is_of_table = table is not None and metadata is None
    if table is not None:
        given, more = read_table(table, folder or Path(), plain=identity is None)
        metadata = more if metadata is None else metadata
    given_or_chosen = {
        "batch_size": batch_size, "workers": workers, "progress": progress, "compile": compile,
    }  # fmt: skip
    rest = {name: value for name, value in given_or_chosen.items() if value is not None}
    updating.update(
        found, given, paths=paths, metadata=metadata, on_error=on_error, wait=wait, drop_missing=True,
        settings=rest, pseudonyms=pseudonyms,
        are_hidden=stated is not None and stated == found.manifest.pseudonyms and metadata_is_of_table,
    )  # fmt: skip
    return found


def _whitening_of_table(identity: ModelIdentity, *, asked_for: bool) -> Whitening | None:
    """The whitening of what made a table; where that is not here it cannot be had, which is said."""
    try:
        return whitening_of(identity)
    except RetinaError as error:
        missing = f"The table's embeddings are of {identity.name}, whose whitening is not here ({error})."
    if asked_for:
        raise ConfigError(f"{missing} Give that model, model=FOLDER, or leave whiten=True out.")
    logger.warning("%s They are compared as they are; model=FOLDER with another store whitens them.", missing)
    return None


def find(folder: Path | LancePlace, settings: dict[str, Any]) -> ImageIndex | None:
    """The index of a folder, or None where there is none yet."""
    try:
        return ImageIndex.open(folder if isinstance(folder, Path) else str(folder), **settings)
    except IndexNotFoundError:
        return None


def made_by(table: Path) -> ModelIdentity | None:
    """What made the embeddings of a table, as its file says; None where it does not."""
    found = {
        key.decode(): value.decode() for key, value in (_parquet(table).schema_arrow.metadata or {}).items()
    }
    names = ("model", "weights_sha256", "transform_hash")
    if not all(found.get(name) for name in names):
        return None
    return ModelIdentity(found["model"], *(found[name] for name in names))


def hidden_by(table: Path) -> str | None:
    """Fingerprint of the key that hides the patients of a table, as its file says; None where none does."""
    found = (_parquet(table).schema_arrow.metadata or {}).get(STATED.encode())
    return found.decode() if found else None


def read_table(path: Path, folder: Path, plain: bool) -> tuple[updating.Table, Any]:
    """Embeddings of a Parquet file with their paths and files, and its further columns.

    Raises:
        ConfigError: it cannot be read or has no embeddings.
    """
    file = _parquet(path)
    names = file.schema_arrow.names
    if "embedding" not in names or "path" not in names:
        raise ConfigError(f"{path} has the columns {', '.join(names)}; path and embedding are needed.")
    table = file.read([name for name in names if name not in ("embedding", "signature")])
    paths = [str(value) for value in table.column("path").to_pylist()]
    seen: dict[str, str] = {}
    if not plain:
        paths = [name if name.startswith("sha256:") else stored_path(path.parent / name, folder, seen)
                 for name in paths]  # fmt: skip
    files: list[tuple[int, int, str | None]] | None = None
    if "file_size" in names and "file_mtime_ns" in names:
        sizes, times = table.column("file_size").to_pylist(), table.column("file_mtime_ns").to_pylist()
        files = [(size or 0, time or 0, None) for size, time in zip(sizes, times, strict=True)]
    silent = {name for name in COLUMNS if name in names and table.column(name).null_count == table.num_rows}
    more = [name for name in names if name not in _OF_ENCODING and name not in silent]
    return updating.Table(ParquetVectors(file, path), paths, files), table.select(more) if more else None


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        check_parquet(path)
        return pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"The table {path} cannot be read ({error}); a Parquet file is needed.") from None


def default_store(folder: str | os.PathLike[str]) -> Path:
    """Where the index of a folder of photos lies unless another place is named."""
    return Path(folder) / DEFAULT_STORE


def find_store(place: str | os.PathLike[str]) -> str | Path:
    """The index meant by its own place, or by the folder of photos that it lies in."""
    if (lance := lance_place(place)) is not None:
        return str(lance)
    inside = default_store(place)
    return inside if not is_store(Path(place)) and is_store(inside) else Path(place)


def is_store(folder: Path) -> bool:
    """Whether a folder holds an index, of this format or the one before."""
    return (folder / database.FILE).exists() or old_format.is_there(folder)


def _place(photos: Any, store: str | Path | None, plain: bool) -> Path | LancePlace | None:
    if store is not None:
        return lance_place(store) or Path(store)
    if not plain and isinstance(photos, str | os.PathLike) and Path(photos).is_dir():
        return default_store(photos)
    return None


__all__ = ["METRICS", "default_store", "find_store", "index"]
