"""``ImageIndex``: pictures that can be found again by what they show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retina_fm.errors import ConfigError, IndexMismatchError, OutputError
from retina_fm.indexes import changing
from retina_fm.indexes.cache import Cache, build_cache, load_cache
from retina_fm.indexes.duplicates import Duplicate, find_duplicates
from retina_fm.indexes.filters import Where, rows_where
from retina_fm.indexes.hits import Hit
from retina_fm.indexes.manifest import Manifest
from retina_fm.indexes.metadata import aligned
from retina_fm.indexes.models import LazyEmbedder
from retina_fm.indexes.plan import EXACT_UP_TO
from retina_fm.indexes.queries import Queries, prepare
from retina_fm.indexes.recall import DEFAULT_K, RecallReport, recall_of_pairs, recall_of_points
from retina_fm.indexes.rows import usable_path
from retina_fm.indexes.searcher import Searcher
from retina_fm.indexes.snapshot import Snapshot
from retina_fm.indexes.space import Space
from retina_fm.indexes.store import open_snapshot, read_stored_whitening
from retina_fm.models import RetinalEncoder, Whitening


class ImageIndex:
    """One state of an index, on disk or in memory; made by :func:`retina_fm.index` or :meth:`open`.

    Searching never changes anything. ``add`` and ``remove`` commit before they return.

    Attributes:
        folder: of the store, or None for an index in memory.
        manifest: metric, model, counts, measured recall.
        report: what the last ``index``, ``add`` or ``remove`` did.
    """

    def __init__(
        self,
        manifest: Manifest,
        snapshot: Snapshot,
        *,
        folder: Path | None = None,
        whitening: Whitening | None = None,
        whiten: bool | None = None,
        model: str | RetinalEncoder | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.report = changing.UpdateReport()
        self._whitening = whitening
        self._whiten = whiten
        self._model = model
        self._settings = settings or {}
        self._adopt(manifest, snapshot, None)

    @classmethod
    def open(
        cls,
        store: str | Path,
        *,
        whiten: bool | None = None,
        model: str | RetinalEncoder | None = None,
        **settings: Any,
    ) -> ImageIndex:
        """Open an index for searching; a folder that cannot be written will do.

        Args:
            store: folder of the index.
            whiten: apply the model's whitening; as the index was made without it.
            model: where the index's model lies now, or the loaded model; the name in the index without it.
            **settings: ``device`` and ``dtype`` of the model.

        Raises:
            IndexNotFoundError: there is no index.
            IndexDamagedError: files are cut or missing; the message says what remains.
            IndexMismatchError: it was made with another model, or by a newer release.
        """
        folder = Path(store)
        manifest, snapshot = open_snapshot(folder)
        whitening = read_stored_whitening(folder, manifest)
        if model is not None:
            changing.check_model(manifest, model)
        return cls(
            manifest,
            snapshot,
            folder=folder,
            whitening=whitening,
            whiten=whiten,
            model=model,
            settings=settings,
        )

    def __len__(self) -> int:
        return len(self.snapshot)

    def __repr__(self) -> str:
        model = self.manifest.model.name if self.manifest.model else "plain embeddings"
        place = self.folder if self.folder is not None else "in memory"
        return f"ImageIndex({len(self)} of {model}, {self.space.metric}, {place})"

    @property
    def snapshot(self) -> Snapshot:
        """Ids, embeddings and rows."""
        return self._snapshot

    @property
    def space(self) -> Space:
        """Metric and whitening."""
        return self._searcher.space

    @property
    def approximate(self) -> bool:
        """Whether search without a filter may miss a neighbour."""
        return self._searcher.approximate

    @property
    def paths(self) -> list[str]:
        """Of the pictures, in the order in which they were added."""
        stored = self.snapshot.paths.take(pa.array(self.snapshot.live_positions)).to_pylist()
        return [self._path(path) for path in stored]

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """``(N, D)`` as the model gave them, in the order of :attr:`paths`, read into memory."""
        return self.snapshot.take(self.snapshot.live_positions)

    @property
    def metadata(self) -> pa.Table:
        """In the order of :attr:`paths`, nulls where a picture has none."""
        return self._table(self.snapshot.live_positions)

    def search(
        self,
        query: Any,
        k: int = 10,
        *,
        where: Where | None = None,
        exclude_same: str | Sequence[str] | None = None,
        exact: bool = False,
    ) -> Any:
        """The k pictures nearest to a query.

        A file that is in the index and has not changed is not encoded again. A float array of rank 1 or 2
        is taken for embeddings; give a grey float picture as ``(H, W, 1)``.

        Args:
            query: a photo or many, as :func:`retina_fm.encode` takes them, or embeddings ``(D,)``
                or ``(Q, D)``.
            k: how many; fewer come where the index, or what the filter leaves, is smaller.
            where: conditions on metadata, met before anything is ranked; see
                :func:`retina_fm.indexes.filters.rows_where`.
            exclude_same: ``"path"`` leaves out the query itself, ``"patient_id"`` (or any other column, or
                several) pictures that agree with it there; for queries that are in the index.
            exact: forbid the approximate index.

        Returns:
            ``list[Hit]`` for one query, ``list[list[Hit]]`` for many.

        Raises:
            ConfigError: k below 1, a column that is not there, embeddings of another length.
            PictureError: a query that cannot be read.
        """
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise ConfigError(f"k is {k!r}; a whole number from 1 is needed.")
        queries = self.prepare(query)
        allowed = None
        if where is not None:
            allowed = np.zeros(self.snapshot.total, np.bool_)
            places = self.snapshot.live_positions
            allowed[places] = rows_where(self._table(places, with_path=True), where)
        excluded = self._excluded(queries, exclude_same)
        found = self._searcher.search(
            queries.embeddings, int(k), allowed=allowed, excluded=excluded, exact=exact
        )
        hits = [self._hits(*row) for row in zip(found.positions, found.scores, strict=True)]
        return hits[0] if queries.single else hits

    def prepare(self, query: Any) -> Queries:
        """A query as embeddings, with its name and its place in the index."""
        return prepare(query, self.snapshot, self.folder or Path(), self._embedder(), self.snapshot.dimension)

    def add(
        self,
        photos: Any,
        *,
        paths: Sequence[str] | None = None,
        metadata: Any = None,
        on_error: Literal["raise", "skip"] = "raise",
        build: bool = True,
        wait: float = 0.0,
        **settings: Any,
    ) -> ImageIndex:
        """Add pictures or embeddings; what is there under the same path is replaced where it differs.

        Args:
            photos: as in :func:`retina_fm.index`.
            paths: names of embeddings.
            metadata: as in :func:`retina_fm.index`.
            on_error: see :func:`retina_fm.encode`.
            build: make the search index ready; False leaves it for a later call where more is to come.
            wait: seconds to wait for another writer.
            **settings: of :func:`retina_fm.encode_to`.

        Returns:
            This index, in its new state.
        """
        request = changing.Request(
            photos=photos, paths=paths, metadata=metadata, on_error=on_error, build=build, wait=wait,
            settings={**self._settings, **settings},
        )  # fmt: skip
        changing.update(self, request)
        return self

    def remove(self, paths: str | Path | Sequence[str | Path] | None = None, *, where: Where | None = None,
               wait: float = 0.0) -> int:  # fmt: skip
        """Remove pictures by path or by metadata. Their embeddings leave the disk with :meth:`compact`.

        Returns:
            How many were removed.

        Raises:
            ConfigError: a path that is not in the index.
        """
        return changing.remove(self, paths, where, wait)

    def compact(self, wait: float = 0.0) -> None:
        """Rewrite the files without what was removed, so that it is gone for good."""
        changing.compact_now(self, wait)

    def save(self, store: str | Path) -> ImageIndex:
        """Write an index to a new folder.

        Returns:
            The index in its new place.

        Raises:
            OutputError: there is an index already, or the disk is full.
        """
        return changing.save(self, Path(store))

    def evaluate(
        self,
        groups: Sequence[Any] | str = "patient_id",
        k: Sequence[int] = DEFAULT_K,
        *,
        where: Where | None = None,
        repeats: int = 2000,
        seed: int = 0,
    ) -> RecallReport:
        """Recall@K by exact search among the index's own pictures; see :mod:`retina_fm.indexes.recall`.

        Args:
            groups: patient ids in the order of :attr:`paths`, or the metadata column that holds them.
            k: numbers of neighbours.
            where: only these pictures are queries and gallery.
            repeats: bootstrap samples of patients.
            seed: of the bootstrap.
        """
        places, ids, chosen = self._judged(groups, where)
        points = self._searcher.points_of(places)
        return recall_of_points(points, ids, k, queries=chosen, gallery=chosen, repeats=repeats, seed=seed)

    def evaluate_pairs(
        self,
        groups: Sequence[Any] | str = "patient_id",
        k: Sequence[int] = DEFAULT_K,
        *,
        modality: Sequence[Any] | str = "modality",
        repeats: int = 2000,
        seed: int = 0,
    ) -> dict[tuple[str, str], RecallReport]:
        """Recall@K for every ordered pair of modalities: queries of the first, gallery of the second."""
        places, ids, _ = self._judged(groups, None)
        kinds = self._column(modality) if isinstance(modality, str) else list(modality)
        points = self._searcher.points_of(places)
        return recall_of_pairs(points, ids, kinds, k, repeats=repeats, seed=seed)

    def duplicates(self, threshold: float = 0.999) -> list[Duplicate]:
        """Pairs of pictures that are the same, or nearly; see :mod:`retina_fm.indexes.duplicates`."""
        return find_duplicates(self, threshold)

    def verify(self) -> list[str]:
        """Read every byte; what is wrong, in words, empty where nothing is."""
        from retina_fm.indexes.repair import verify

        return [] if self.folder is None else verify(self.folder)

    def to_parquet(self, path: str | Path) -> Path:
        """Paths, embeddings and metadata as one Parquet table; see :mod:`retina_fm.indexes.export`."""
        from retina_fm.indexes.export import to_parquet

        return to_parquet(self, Path(path))

    def to_datasets(self) -> Any:
        """A Hugging Face ``datasets.Dataset`` (extra ``datasets``)."""
        from retina_fm.indexes.export import to_datasets

        return to_datasets(self)

    def to_lance(self, uri: str | Path, name: str = "pictures") -> Any:
        """A LanceDB table (extra ``lance``)."""
        from retina_fm.indexes.export import to_lance

        return to_lance(self, uri, name)

    # What the modules around this class need.

    def reload(self) -> None:
        """Take over the state that is on the disk now."""
        if self.folder is None:
            raise OutputError("An index in memory has nothing to load; save it first.")
        manifest, snapshot = open_snapshot(self.folder)
        self._whitening = read_stored_whitening(self.folder, manifest)
        self._adopt(manifest, snapshot, None)

    def points(self) -> NDArray[np.float32]:
        """Points ``(N, D)`` of the live rows, in the order of :attr:`paths`."""
        return self._searcher.points_of(self.snapshot.live_positions)

    @property
    def space_is_not_stored(self) -> bool:
        """Whether this view compares otherwise than the store's own cache does."""
        return self._whiten is not None and self._whiten != self.manifest.whiten

    @property
    def searcher(self) -> Searcher:
        """Search by positions."""
        return self._searcher

    def describe(self, positions: NDArray[np.int64]) -> list[tuple[str, dict[str, Any]]]:
        """Path and metadata at some positions."""
        stored = self.snapshot.paths.take(pa.array(positions)).to_pylist()
        rows = self._table(positions).to_pylist() or [{} for _ in stored]
        return [(self._path(path), row) for path, row in zip(stored, rows, strict=True)]

    def _adopt(self, manifest: Manifest, snapshot: Snapshot, cache: Cache | None) -> None:
        whiten = manifest.whiten if self._whiten is None else self._whiten
        if whiten and self._whitening is None:
            raise IndexMismatchError(
                "whiten=True, but the model of this index ships no whitening. Leave it out, or use a model "
                "that has one."
            )
        space = Space(manifest.metric, self._whitening if whiten and manifest.metric == "cosine" else None)
        if cache is None and snapshot.total:
            if self.folder is not None:
                cache = load_cache(self.folder, snapshot, space)
            elif snapshot.total > EXACT_UP_TO:
                cache = build_cache(snapshot, space)
        self.manifest = manifest
        self._snapshot = snapshot
        self._searcher = Searcher(snapshot, space, cache)

    def _embedder(self) -> LazyEmbedder | None:
        if self.manifest.model is None:
            return None
        if not hasattr(self, "_lazy"):
            chosen = {name: self._settings[name] for name in ("device", "dtype") if name in self._settings}
            self._lazy = LazyEmbedder(self.manifest.model, self._model, **chosen)
        return self._lazy

    def _path(self, stored: str) -> str:
        return usable_path(stored, self.folder) if self.manifest.model else stored

    def _table(self, positions: NDArray[np.int64], with_path: bool = False) -> pa.Table:
        stored = self.snapshot.paths.take(pa.array(positions))
        table = aligned(self.snapshot.metadata, stored.to_pylist())
        if with_path:
            return table.append_column("path", pa.array([self._path(p) for p in stored.to_pylist()]))
        return table

    def _column(self, name: str) -> list[Any]:
        table = self.metadata
        if name not in table.column_names:
            raise ConfigError(
                f"There is no metadata column {name!r} ({', '.join(table.column_names) or 'none at all'}). "
                "Add metadata, or pass the values themselves."
            )
        values: list[Any] = table.column(name).to_pylist()
        return values

    def _judged(
        self, groups: Sequence[Any] | str, where: Where | None
    ) -> tuple[NDArray[np.int64], list[Any], NDArray[np.bool_] | None]:
        places = self.snapshot.live_positions
        ids = self._column(groups) if isinstance(groups, str) else list(groups)
        chosen = None if where is None else rows_where(self._table(places, with_path=True), where)
        return places, ids, chosen

    def _excluded(
        self, queries: Queries, exclude_same: str | Sequence[str] | None
    ) -> list[NDArray[np.int64]] | None:
        if exclude_same is None:
            return None
        columns = [exclude_same] if isinstance(exclude_same, str) else list(exclude_same)
        found = [np.empty(0, np.int64) for _ in queries.positions]
        for column in columns:
            if column == "path":
                found = [
                    np.append(some, place) if place >= 0 else some
                    for some, place in zip(found, queries.positions, strict=True)
                ]
                continue
            lost = np.flatnonzero(queries.positions < 0)
            if len(lost):
                raise ConfigError(
                    f"exclude_same={column!r}: {queries.names[lost[0]]} is not in the index, so its "
                    f"{column} is unknown. Use where= with '!=' instead."
                )
            values = np.array(self._column(column), dtype=object)
            live = self.snapshot.live_positions
            for number, place in enumerate(queries.positions):
                own = values[np.searchsorted(live, place)]
                if own is not None:
                    found[number] = np.union1d(found[number], live[values == own])
        return found

    def _hits(self, positions: NDArray[np.int64], scores: NDArray[np.float32]) -> list[Hit]:
        kept = positions >= 0
        described = self.describe(positions[kept])
        return [
            Hit(path, float(score), rank, metadata)
            for rank, ((path, metadata), score) in enumerate(
                zip(described, scores[kept], strict=True), start=1
            )
        ]
