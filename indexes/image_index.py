"""``ImageIndex``: pictures that can be found again by what they show."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image

from retina_fm._io.pseudonyms import pseudonyms_of
from retina_fm.errors import ConfigError, IndexMismatchError, OutputError
from retina_fm.indexes import metadata as describing
from retina_fm.indexes import updating
from retina_fm.indexes.approximate import EXACT_UP_TO
from retina_fm.indexes.cache import Cache, build_cache, load_cache
from retina_fm.indexes.duplicates import NEAR, Duplicate, SameEyePairs, find_duplicates, same_eye_pairs
from retina_fm.indexes.exact import Neighbours
from retina_fm.indexes.hits import Hit, Hits
from retina_fm.indexes.lance_places import LancePlace, lance_place
from retina_fm.indexes.lance_search import lance_searcher
from retina_fm.indexes.lance_store import LanceState
from retina_fm.indexes.models import LazyEmbedder, check_model
from retina_fm.indexes.queries import Queries, file_of, prepare
from retina_fm.indexes.recall import Eyes, RecallReport, recall_of_pairs, recall_of_points
from retina_fm.indexes.searcher import Searcher
from retina_fm.indexes.space import Space
from retina_fm.indexes.spaces import (
    RETRIEVAL,
    Asked,
    asked_by_embedding,
    asked_by_signature,
    best_of,
    checked_space,
    eyes_first,
    reasons,
    same_eye_from,
)
from retina_fm.indexes.state import EMBEDDING, SIGNATURE, Manifest, State, stored_path
from retina_fm.indexes.store import open_state, verify, writing
from retina_fm.indexes.where import Sql, Where, places_where
from retina_fm.metrics.recall import KS
from retina_fm.models import Model, Whitening
from retina_fm.signatures import FALSE_ACCEPTS

_MASKS = 8


class ImageIndex:
    """One state of an index, on disk or in memory; made by :func:`retina_fm.index` or :meth:`open`.

    Searching never changes anything. ``add`` and ``remove`` commit before they return.

    Attributes:
        folder: of the store, or None for an index in memory. Paths of pictures are relative to it.
        place: of the store: that folder, or a place in LanceDB, or None.
        report: what the last ``index``, ``add`` or ``remove`` did.
        state: rows and vectors.
    """

    def __init__(
        self,
        state: State,
        *,
        place: Path | LancePlace | None = None,
        whiten: bool | None = None,
        model: Model | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.place = place
        self.folder = place.folder if isinstance(place, LancePlace) else place
        self.report = updating.UpdateReport()
        self._whiten = whiten
        self._model = model
        self._settings = settings or {}
        self.adopt(state)

    @classmethod
    def open(
        cls,
        store: str | Path,
        *,
        whiten: bool | None = None,
        model: Model | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
    ) -> ImageIndex:
        """Open an index for searching; a folder that cannot be written will do.

        Args:
            store: folder of the index, or ``lance://FOLDER-OR-URL``.
            whiten: apply the model's whitening; as the index was made without it.
            model: where the index's model lies now, or the loaded model; the name in the index without it.
            device: of the model; the first GPU or the CPU without it.
            dtype: of the model; ``"auto"`` takes bfloat16 where the processor has it natively.

        Raises:
            IndexNotFoundError: there is no index.
            IndexDamagedError: files are cut or missing; the message says what remains.
            IndexMismatchError: it was made with another model, or by a newer release.
        """
        place = lance_place(store) or Path(store)
        state = open_state(place)
        if model is not None:
            check_model(state.manifest.model, model)
        found = cls(
            state, place=place, whiten=whiten, model=model, settings={"device": device, "dtype": dtype}
        )
        found.searcher  # noqa: B018  what is damaged is told now
        return found

    def __len__(self) -> int:
        return len(self.state)

    def __repr__(self) -> str:
        model = self.manifest.model.name if self.manifest.model else "plain embeddings"
        place = self.place if self.place is not None else "in memory"
        return f"ImageIndex({len(self)} of {model}, {self.space.metric}, {place})"

    @property
    def manifest(self) -> Manifest:
        """Metric, model, counts, measured recall."""
        cache = self.searcher.cache
        return replace(self.state.manifest, recall=cache.recall if cache else None)

    @property
    def whitening(self) -> Whitening | None:
        """Copied from the model when the index was made."""
        return self.state.whitening

    @property
    def space(self) -> Space:
        """Metric and whitening."""
        manifest = self.state.manifest
        whiten = manifest.whiten if self._whiten is None else self._whiten
        if whiten and self.whitening is None:
            raise IndexMismatchError(
                "whiten=True, but the model of this index ships no whitening. Leave it out, or use a model "
                "that has one."
            )
        return Space(manifest.metric, self.whitening if whiten and manifest.metric == "cosine" else None)

    @property
    def approximate(self) -> bool:
        """Whether search without a filter may miss a neighbour."""
        return self.searcher.approximate

    @property
    def paths(self) -> list[str]:
        """Of the pictures, in the order in which they were added."""
        return [self.state.usable(path) for path in self.state.stored_paths()]

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """``(N, D)`` as the model gave them, in the order of :attr:`paths`, read into memory."""
        return self.state.vectors.take(self.state.live_positions)

    @property
    def signatures(self) -> NDArray[np.float32] | None:
        """``(N, K)`` in the order of :attr:`paths`, read into memory; None where the index holds none."""
        found = self.state.signatures
        return None if found is None else found.take(self.state.live_positions)

    @property
    def metadata(self) -> pa.Table:
        """In the order of :attr:`paths`, nulls where a picture has none."""
        return describing.table_of(self.state)

    @overload
    def search(
        self,
        query: str | os.PathLike[str] | bytes | Image.Image,
        k: int = ...,
        *,
        where: Where | None = ...,
        exclude_same: str | Sequence[str] | None = ...,
        include_query: bool = ...,
        exact: bool = ...,
        space: str | None = ...,
        turned: bool = ...,
        mirrored: bool = ...,
    ) -> Hits: ...

    @overload
    def search(
        self,
        query: list[Any] | tuple[Any, ...],
        k: int = ...,
        *,
        where: Where | None = ...,
        exclude_same: str | Sequence[str] | None = ...,
        include_query: bool = ...,
        exact: bool = ...,
        space: str | None = ...,
        turned: bool = ...,
        mirrored: bool = ...,
    ) -> list[Hits]: ...

    @overload
    def search(
        self,
        query: Any,
        k: int = ...,
        *,
        where: Where | None = ...,
        exclude_same: str | Sequence[str] | None = ...,
        include_query: bool = ...,
        exact: bool = ...,
        space: str | None = ...,
        turned: bool = ...,
        mirrored: bool = ...,
    ) -> Any: ...

    def search(
        self,
        query: Any,
        k: int = 10,
        *,
        where: Where | None = None,
        exclude_same: str | Sequence[str] | None = None,
        include_query: bool = False,
        exact: bool = False,
        space: str | None = None,
        turned: bool = True,
        mirrored: bool = False,
    ) -> Any:
        """The k pictures nearest to a query.

        A file of the index is left out of its own answer, and not encoded again unless it has changed. A
        float array of rank 1 or 2 is taken for embeddings; give a grey float picture as ``(H, W, 1)``.

        Args:
            query: a photo or many, as :func:`retina_fm.encode` takes them, or embeddings ``(D,)``
                or ``(Q, D)``.
            k: how many; fewer come where the index, or what the filter leaves, is smaller.
            where: conditions on metadata, met before anything is ranked; see
                :func:`retina_fm.indexes.where.places_where`.
            exclude_same: ``"patient_id"`` (or any other column, or several) leaves out pictures that agree
                with the query there, a patient's id in any spelling, and a blank with nothing; for queries
                that are in the index.
            include_query: let a file of the index be found by itself.
            exact: forbid the approximate index.
            space: ``"embedding"`` (the default) compares embeddings; ``"signature"`` the pattern of vessels,
                which finds the same eye whatever the camera, the visit or the dye, always exactly;
                ``"retrieval"`` gives what signatures take for the same eye first (scores above 1), then
                what is alike by embedding. Each hit's ``why`` says which eye's it is taken for.
            turned: where signatures are compared, try the query turned by up to 22 degrees and zoomed by 0.75
                to 1.34, too; a hundred comparisons instead of one.
            mirrored: try its mirror image, too.

        Returns:
            ``Hits``, a list of ``Hit``, for one query; a list of them for many. A type checker takes a path
            for one photo, though a folder's or a pattern's are many.

        Raises:
            ConfigError: k below 1, a column that is not there, embeddings of another length.
            PictureError: a query that cannot be read.
        """
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise ConfigError(f"k is {k!r}; a whole number from 1 is needed.")
        k = min(int(k), max(1, self.state.total))
        name = checked_space(space, self.state)
        if mirrored and name == EMBEDDING:
            raise ConfigError("mirrored=True goes with space='signature' or 'retrieval'.")
        queries = self.prepare(query, signs=name != EMBEDDING)
        allowed = None if where is None else self._mask(where)
        excluded = self._excluded(queries, exclude_same, include_query)

        def nearest(space: str, asked: Asked) -> Neighbours:
            apart = excluded and [places for places in excluded for _ in range(asked.variants)]
            searcher = self.searcher_of(space)
            found = searcher.search(asked.rows, k, allowed=allowed, excluded=apart, exact=exact)
            return best_of(found, asked, k)

        found = alike = None
        if name != SIGNATURE:
            found = alike = nearest(EMBEDDING, asked_by_embedding(queries))
        if name != EMBEDDING:
            basis = self.state.basis
            assert basis is not None  # or the space was refused
            found = nearest(SIGNATURE, asked_by_signature(queries, basis, turned, mirrored))
            if alike is not None:
                gallery = len(self) if allowed is None else int((self.state.live & allowed).sum())
                found = eyes_first(found, alike, same_eye_from(basis, gallery, turned=turned or mirrored))
        assert found is not None
        hits = self._hits(queries, found.positions, found.scores)
        if queries.signatures is not None:
            hits = self._explained(hits, queries, found.positions, turned, mirrored)
        return hits[0] if queries.single else hits

    def prepare(self, query: Any, signs: bool = False) -> Queries:
        """A query as embeddings, with its name and its place in the index."""
        return prepare(query, self.state, self.embedder(), signs)

    def add(
        self,
        photos: Any,
        *,
        paths: Sequence[str] | None = None,
        metadata: Any = None,
        on_error: Literal["raise", "skip"] = "raise",
        build: bool = True,
        wait: float = 0.0,
        batch_size: int | None = None,
        workers: int | None = None,
        progress: bool | None = None,
        compile: bool | None = None,  # noqa: A002  the word that torch and its users know
        pseudonymise: str | Path | None = None,
    ) -> ImageIndex:
        """Add pictures or embeddings; what is there under the same path is replaced where it differs.

        Args:
            photos: as in :func:`retina_fm.index`.
            paths: names of embeddings.
            metadata: as in :func:`retina_fm.index`.
            on_error: see :func:`retina_fm.encode`.
            build: make the search index ready; False leaves it for a later call where more is to come.
            wait: seconds to wait for another writer.
            batch_size: see :func:`retina_fm.encode`.
            workers: see :func:`retina_fm.encode`.
            progress: see :func:`retina_fm.encode`.
            compile: see :func:`retina_fm.encode`.
            pseudonymise: see :func:`retina_fm.index`.

        Returns:
            This index, in its new state.
        """
        updating.update(
            self, photos, paths=paths, metadata=metadata, on_error=on_error, build=build, wait=wait,
            settings={
                "batch_size": batch_size, "workers": workers, "progress": progress, "compile": compile
            },
            pseudonyms=pseudonyms_of(pseudonymise),
        )  # fmt: skip
        return self

    def remove(self, paths: str | Path | Sequence[str | Path] | None = None, *, where: Where | None = None,
               wait: float = 0.0) -> int:  # fmt: skip
        """Remove pictures by path or by metadata. Their embeddings leave the disk with :meth:`compact`.

        Returns:
            How many were removed.

        Raises:
            ConfigError: a path that is not in the index.
        """
        if (paths is None) == (where is None):
            raise ConfigError("Say what to remove: either paths or where=.")
        return updating.remove(self, lambda: self._named(paths, where), wait)

    def index_column(self, column: str, wait: float = 0.0) -> None:
        """Make filters on a metadata column of a big index fast.

        Raises:
            ConfigError: there is no such column.
        """
        with writing(self.place, wait, memory=self.state) as writer:
            updating.prepared(self, writer)
            describing.column_kind(self.state, column)
            writer.index_column(column)
            updating.finished(self, writer, build=False)

    def forget_signatures(self, wait: float = 0.0) -> None:
        """Delete the signatures, which recognise persons; everything else stays."""
        with writing(self.place, wait, memory=self.state) as writer:
            updating.prepared(self, writer)
            writer.forget_signatures()
            writer.commit()
            self.adopt(writer.committed())
            writer.tidy()
            if isinstance(self.place, LancePlace):  # which rewrites its vectors for it
                updating.refresh_cache(self, writer)

    def compact(self, wait: float = 0.0) -> None:
        """Rewrite the files without what was removed, so that it is gone for good.

        In LanceDB all versions before are deleted: an index that was opened before has to be opened again.
        """
        with writing(self.place, wait, memory=self.state) as writer:
            updating.prepared(self, writer)
            if not writer.upgraded:  # that has rewritten everything
                updating.compact(self, writer)
            if self.place is not None:
                updating.refresh_cache(self, writer)

    def save(self, store: str | Path) -> ImageIndex:
        """Write an index to a new folder, or to a place in LanceDB (``lance://FOLDER-OR-URL``).

        Returns:
            The index in its new place.

        Raises:
            OutputError: there is an index already, or the disk is full.
        """
        place, plain = lance_place(store) or Path(store), self.state.manifest.model is None
        folder = place.folder if isinstance(place, LancePlace) else place

        def moved(path: str) -> str:
            return (
                path if plain or path.startswith("sha256:") else stored_path(self.state.usable(path), folder)
            )

        with writing(place) as writer:
            if writer.state is not None:
                raise OutputError(f"{store} holds an index already; name another folder, or remove it first.")
            writer.manifest = replace(self.state.manifest, generation=0)
            writer.whitening, writer.basis = self.whitening, self.state.basis
            writer.rewrite(self.state, moved)
            writer.commit()
            saved = ImageIndex(writer.committed(), place=place, model=self._model, settings=self._settings)
            updating.refresh_cache(saved, writer)
        return saved

    def evaluate(
        self,
        groups: Sequence[Any] | str = "patient_id",
        k: Sequence[int] = KS,
        *,
        where: Where | None = None,
        space: str | None = None,
        repeats: int = 2000,
        seed: int = 0,
    ) -> RecallReport:
        """Recall@K by exact search among the index's own pictures; see :mod:`retina_fm.indexes.recall`.

        Args:
            groups: patient ids in the order of :attr:`paths`, or the metadata column that holds them.
            k: numbers of neighbours.
            where: only these pictures are queries and gallery.
            space: what is compared, as in :meth:`search`; signatures as they are, not turned.
            repeats: bootstrap samples of patients.
            seed: of the bootstrap.
        """
        places, ids, chosen = self._judged(groups, where)
        count = len(places) if chosen is None else int(chosen.sum())
        points, eyes = self._compared(space, places, gallery=count)
        return recall_of_points(
            points, ids, k, queries=chosen, gallery=chosen, eyes=eyes, repeats=repeats, seed=seed
        )

    def evaluate_pairs(
        self,
        groups: Sequence[Any] | str = "patient_id",
        k: Sequence[int] = KS,
        *,
        modality: Sequence[Any] | str = "modality",
        space: str | None = None,
        repeats: int = 2000,
        seed: int = 0,
    ) -> dict[tuple[str, str], RecallReport]:
        """Recall@K for every ordered pair of modalities: queries of the first, gallery of the second."""
        places, ids, _ = self._judged(groups, None)
        kinds = describing.column_of(self.state, modality) if isinstance(modality, str) else list(modality)
        points, eyes = self._compared(space, places, gallery=len(places))
        return recall_of_pairs(points, ids, kinds, k, eyes=eyes, repeats=repeats, seed=seed)

    def _compared(
        self, space: str | None, places: NDArray[np.int64], gallery: int
    ) -> tuple[Any, Eyes | None]:
        """Points of a space, and what tells the eyes that come first where it is ``retrieval``."""
        name = checked_space(space, self.state)
        points = self.searcher_of(EMBEDDING if name == RETRIEVAL else name).points_of(places)
        if name != RETRIEVAL:
            return points, None
        basis = self.state.basis
        assert basis is not None
        signatures = self.searcher_of(SIGNATURE).points_of(places)
        return points, Eyes(signatures, same_eye_from(basis, gallery, turned=False))

    def duplicates(self, threshold: float = NEAR) -> list[Duplicate]:
        """Pairs of pictures that are the same, or nearly; see :mod:`retina_fm.indexes.duplicates`."""
        return find_duplicates(self, threshold)

    def same_eyes(
        self, false_accepts: float = FALSE_ACCEPTS, *, turned: bool = True, mirrored: bool = False
    ) -> SameEyePairs:
        """Pairs of pictures of one eye; see :func:`retina_fm.indexes.duplicates.same_eye_pairs`."""
        return same_eye_pairs(self, false_accepts, turned=turned, mirrored=mirrored)

    def save_map(self, path: str | Path, **settings: Any) -> Path:
        """Every picture in two dimensions as an HTML page; see :func:`retina_fm.indexes.map.save_map`."""
        from retina_fm.indexes.map import save_map

        return save_map(self, path, **settings)

    def verify(self) -> list[str]:
        """Read every byte; what is wrong, in words, empty where nothing is."""
        return [] if self.place is None else verify(self.place)

    def to_parquet(self, path: str | Path, *, signatures: bool = False) -> Path:
        """Paths, embeddings and metadata as one Parquet table; see :mod:`retina_fm.indexes.export`."""
        from retina_fm.indexes.export import to_parquet

        return to_parquet(self, Path(path), signatures=signatures)

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
        if self.place is None:
            raise OutputError("An index in memory has nothing to load; save it first.")
        self.adopt(open_state(self.place))

    def adopt(self, state: State) -> None:
        """Be another state of the same index."""
        self.state = state
        self._searcher: Searcher | None = None
        self._signed: Searcher | None = None
        self._masks: dict[str, NDArray[np.bool_]] = {}
        self._values: dict[str, NDArray[np.object_]] = {}

    def points(self) -> NDArray[np.float32]:
        """Points ``(N, D)`` of the pictures, in the order of :attr:`paths`."""
        return self.searcher.points_of(self.state.live_positions)

    @property
    def space_is_not_stored(self) -> bool:
        """Whether this view compares otherwise than the store's own cache does."""
        return self._whiten is not None and self._whiten != self.state.manifest.whiten

    @property
    def searcher(self) -> Searcher:
        """Search by places."""
        if self._searcher is None and isinstance(self.state, LanceState):
            self._searcher = lance_searcher(self.state, self.space)
        if self._searcher is None:
            cache: Cache | None = None
            if self.state.total:
                if self.folder is not None:
                    cache = load_cache(self.folder, self.state, self.space)
                elif self.state.total > EXACT_UP_TO:
                    cache = build_cache(self.state, self.space)
            self._searcher = Searcher(self.state, self.space, cache)
        return self._searcher

    def searcher_of(self, space: str) -> Searcher:
        """Search by embeddings, or by signatures, which is always exact.

        Raises:
            ConfigError: ``retrieval`` is both, one after the other, and has no points of its own.
        """
        if space == EMBEDDING:
            return self.searcher
        if space != SIGNATURE:
            raise ConfigError(f"space={space!r} has no points of its own; take 'embedding' or 'signature'.")
        if self._signed is None:
            self._signed = Searcher(self.state, Space(), None, self.state.signatures)
        return self._signed

    def embedder(self) -> LazyEmbedder | None:
        """What encodes photos for this index; None for plain embeddings."""
        model = self.state.manifest.model
        if model is None:
            return None
        if not hasattr(self, "_lazy"):
            chosen = {name: self._settings[name] for name in ("device", "dtype") if name in self._settings}
            self._lazy = LazyEmbedder(model, self._model, **chosen)
        return self._lazy

    def _mask(self, where: Where) -> NDArray[np.bool_]:
        """Places that meet conditions; the last ones are kept, since a state does not change."""
        key = repr(where) if isinstance(where, str | Sql) else ""
        if key not in self._masks:
            mask = places_where(self.state, where)
            if not key:
                return mask
            while len(self._masks) >= _MASKS:
                self._masks.pop(next(iter(self._masks)))
            self._masks[key] = mask
        return self._masks[key]

    def _named(self, paths: Any, where: Where | None) -> NDArray[np.int64]:
        state = self.state
        if where is not None:
            return np.flatnonzero(places_where(state, where))
        names = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        plain, folder = state.manifest.model is None, self.folder or Path()
        seen: dict[str, str] = {}
        stored = [
            str(n) if plain or str(n).startswith("sha256:") else stored_path(n, folder, seen) for n in names
        ]
        places = state.find(stored)
        missing = [name for name, place in zip(names, places, strict=True) if place < 0]
        if missing:
            raise ConfigError(
                f"{len(missing)} of {len(names)} paths are not in the index, for example "
                f"{str(missing[0])!r}; nothing was removed."
            )
        return np.unique(places)

    def _judged(
        self, groups: Sequence[Any] | str, where: Where | None
    ) -> tuple[NDArray[np.int64], list[Any], NDArray[np.bool_] | None]:
        places = self.state.live_positions
        ids = describing.column_of(self.state, groups) if isinstance(groups, str) else list(groups)
        return places, ids, None if where is None else self._mask(where)[places]

    def _excluded(
        self, queries: Queries, exclude_same: str | Sequence[str] | None, include_query: bool
    ) -> list[NDArray[np.int64]] | None:
        columns = [exclude_same] if isinstance(exclude_same, str) else list(exclude_same or ())
        known = queries.positions >= 0
        files = [file_of(photo) is not None for photo in queries.photos]
        itself = known & (np.array(files, np.bool_) if "path" not in columns else True)
        if include_query and "path" not in columns:
            itself[:] = False
        columns = [column for column in columns if column != "path"]
        if not columns and not itself.any():
            return None
        found = [
            queries.positions[i : i + 1] if itself[i] else np.empty(0, np.int64) for i in range(len(known))
        ]
        for column in columns:
            if not known.all():
                lost = queries.names[int(np.argmin(known))]
                raise ConfigError(
                    f"exclude_same={column!r}: {lost} is not in the index, so its {column} is unknown. "
                    "Use where= with '!=' instead."
                )
            values = self._comparable(column)
            live = self.state.live_positions
            for number, place in enumerate(queries.positions):
                own = values[np.searchsorted(live, place)]
                if own is not None:
                    same = live[values == own]
                    found[number] = np.union1d(
                        found[number], same if not include_query else same[same != place]
                    )
        return found

    def _comparable(self, column: str) -> NDArray[np.object_]:
        """Values of a column in the order of the live places, kept since a state does not change."""
        if column not in self._values:
            values = describing.comparable(column, describing.column_of(self.state, column))
            self._values[column] = np.array(values, dtype=object)
        return self._values[column]

    def _explained(
        self, found: list[Hits], queries: Queries, positions: NDArray[np.int64], turned: bool, mirrored: bool
    ) -> list[Hits]:
        """Hits that say which part spoke."""
        state, told = self.state, []
        assert state.basis is not None and state.signatures is not None and queries.signatures is not None
        for hits, places, query in zip(found, positions, queries.signatures, strict=True):
            rows = state.signatures.take(places[places >= 0])
            why = reasons(state.basis, query, rows, turned=turned, mirrored=mirrored)
            whole = [
                replace(hit, why=text, false_accept=rate) for hit, (text, rate) in zip(hits, why, strict=True)
            ]
            told.append(Hits(whole, hits.photo, hits.name, hits.metadata))
        return told

    def _hits(
        self, queries: Queries, positions: NDArray[np.int64], scores: NDArray[np.float32]
    ) -> list[Hits]:
        wanted = {*positions.ravel().tolist(), *queries.positions.tolist()} - {-1}
        known = describing.describe(self.state, wanted)
        found = []
        for number, (places, row) in enumerate(zip(positions.tolist(), scores.tolist(), strict=True)):
            hits = [
                Hit(known[place][0], score, rank, known[place][1])
                for rank, (place, score) in enumerate(zip(places, row, strict=True), start=1)
                if place >= 0
            ]
            own = int(queries.positions[number])
            about = known[own][1] if own >= 0 else {}
            found.append(Hits(hits, queries.photos[number], queries.names[number], about))
        return found
