"""What is compared: registered models, weight-free baselines, tables of embeddings, and two models fused."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from retina_fm._io.files import canonical_json, sha256_of, write_bytes
from retina_fm._io.parquet_seals import check_parquet
from retina_fm._io.seals import npy_bytes, read_npy
from retina_fm.errors import ConfigError
from retina_fm.evaluation.baselines.features import BASELINES
from retina_fm.evaluation.manifest import Manifest
from retina_fm.evaluation.names import file_name
from retina_fm.evaluation.same_eyes import read_signatures
from retina_fm.evaluation.suite import Settings
from retina_fm.evaluation.vessel_methods import VesselMethod, adapter, frangi, sam2, scratch
from retina_fm.evaluation.video_sources import OTHERS, VideoSource, from_folder, from_model
from retina_fm.metrics.scores import Floats
from retina_fm.signatures import SignatureBasis


class Contender(Protocol):
    """Something that is compared: it gives features, segments vessels, makes videos, or several of these.

    A contender says what it can do; what it does not say it cannot.

    Attributes:
        name: in every result.
        gives_features: whether :meth:`features` can be asked.
        reads_signatures: whether :meth:`signatures` can be asked.
        widths: of the encoders whose features are side by side; one number for one encoder.
        whitening: that ships with the weights, for retrieval alone: with a method ``apply``, or None.
    """

    name: str
    gives_features: bool = False
    reads_signatures: bool = False
    widths: tuple[int, ...] | None = None

    @property
    def whitening(self) -> Any:
        """None unless weights ship with one."""
        return None

    def identity(self) -> dict[str, Any]:
        """What determines its results: hashes and versions."""
        ...

    def features(self, manifest: Manifest, cache: Path) -> Floats:
        """Features ``(N, D)`` of a set's pictures in order, computed once and kept in ``cache``.

        Raises:
            ConfigError: it gives none.
        """
        raise ConfigError(f"{self.name} gives no features of {manifest.name} to keep in {cache}.")

    def signatures(self, manifest: Manifest, cache: Path) -> tuple[Any, SignatureBasis]:
        """Signatures ``(N, K)`` of a set's pictures in order, kept in ``cache``, and their basis.

        Raises:
            ConfigError: it reads none.
        """
        raise ConfigError(f"{self.name} reads no signatures of {manifest.name} to keep in {cache}.")

    def vessels(self, settings: Settings) -> VesselMethod | None:  # noqa: ARG002
        """How it segments vessels; None where it does not."""
        return None

    def videos(self) -> VideoSource | str | None:
        """How it makes videos; None where it does not, a text where it should and cannot."""
        return None


class Encoder(Contender):
    """A registered model, a weights folder, or anything else that ``retina_fm.load`` takes."""

    gives_features = True

    def __init__(self, name: str, source: str, size: int | None = None) -> None:
        self.name, self.source, self.size = name, source, size
        self._loaded: Any = None

    @property
    def encoder(self) -> Any:
        """The model, loaded on first use; at another view size where one was asked for."""
        if self._loaded is None:
            from dataclasses import replace

            from retina_fm.encoding.embedder import load_fast

            self._loaded, _ = load_fast(self.source)
            if self.size is not None:
                self._loaded.transform = replace(self._loaded.transform, size=self.size)
            self.widths = (self._loaded.num_features,)
        return self._loaded

    @property
    def whitening(self) -> Any:
        """Read from the weights' folder; None where it has none."""
        from retina_fm.models import resolve
        from retina_fm.models.whitening import read_whitening

        return None if self.source.startswith("timm/") else read_whitening(resolve(self.source))

    def identity(self) -> dict[str, Any]:
        """Weights, transform and licence."""
        from retina_fm.models import read_config, resolve

        encoder = self.encoder
        config = None if self.source.startswith("timm/") else read_config(resolve(self.source))
        return {
            "kind": "encoder",
            "whitening": config.whitening if config else None,
            "weights_sha256": encoder.weights_sha256,
            "transform_hash": encoder.transform.hash,
            "size": encoder.transform.size,
            "dimension": encoder.num_features,
            "precision": str(encoder.dtype).removeprefix("torch."),
            "licence": encoder.card.licence,
        }

    def features(self, manifest: Manifest, cache: Path) -> Floats:
        """By :func:`retina_fm.encode_to`, which continues where a killed run was."""
        import pyarrow.parquet as pq

        from retina_fm.encoding import encode_to

        identity = self.identity()
        digest = hashlib.sha256(
            canonical_json([identity[part] for part in ("weights_sha256", "transform_hash", "precision")])
        ).hexdigest()[:8]
        table = cache / f"{file_name(self.name)}-{digest}" / f"{file_name(manifest.name)}.parquet"
        encode_to([row.path for row in manifest.rows], table, self.encoder)
        rows = pq.read_table(table, columns=["embedding"])
        return np.array(rows["embedding"].to_pylist(), np.float64)

    @property
    def reads_signatures(self) -> bool:  # type: ignore[override]
        """Whether it is of the Fundus2Video kind."""
        return hasattr(self.encoder, "signature_basis")

    def signatures(self, manifest: Manifest, cache: Path) -> tuple[Any, SignatureBasis]:
        """By the basis of its weights; of lines alone, they are the same for all models and read once."""
        encoder = self.encoder
        basis: SignatureBasis = encoder.signature_basis
        if not basis.needs_network:
            paths = [row.path for row in manifest.rows]
            place = cache / "fingerprints" / f"{file_name(manifest.name)}.signatures.npz"
            return read_signatures(paths, [sha256_of(path) for path in paths], place), basis
        stats = [(row.name, row.path.stat().st_size, row.path.stat().st_mtime_ns) for row in manifest.rows]
        identity = [self.identity(), basis.hash, stats]
        key = hashlib.sha256(canonical_json(identity)).hexdigest()[:12]
        kept = cache / "fingerprints" / f"{file_name(manifest.name)}-{key}.signatures.npy"
        with suppress(OSError, ValueError):  # not there, or damaged: read again
            return np.asarray(read_npy(kept), np.float32), basis
        rows = encoder.signature([row.path for row in manifest.rows])
        write_bytes(kept, npy_bytes(rows))
        return rows, basis

    def vessels(self, settings: Settings) -> VesselMethod:
        """A light decoder over its maps."""
        return adapter(self.name, self.source, lambda: self.encoder, self.identity(), settings)

    def videos(self) -> VideoSource | str:
        """Of its generator, where it has one."""
        try:
            return from_model(self.name, self.source)
        except ConfigError as error:
            return str(error)


class Baseline(Contender):
    """Features that need no weights; see :data:`retina_fm.evaluation.baselines.features.BASELINES`."""

    gives_features = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.function, self.version, self.about = BASELINES[name]

    def identity(self) -> dict[str, Any]:
        """Name and version of the procedure."""
        return {"kind": "baseline", "procedure": self.name, "version": self.version, "about": self.about}

    def features(self, manifest: Manifest, cache: Path) -> Floats:
        """Computed a picture at a time; the whole set is kept, keyed by the files' sizes and times."""
        stats = [(row.name, row.path.stat().st_size, row.path.stat().st_mtime_ns) for row in manifest.rows]
        key = hashlib.sha256(canonical_json([self.identity(), stats])).hexdigest()[:12]
        kept = cache / self.name / f"{file_name(manifest.name)}-{key}.npy"
        with suppress(OSError, ValueError):  # not there, or damaged: computed again
            return np.asarray(read_npy(kept), np.float64)
        values = np.stack([self.function(row.path) for row in manifest.rows])
        write_bytes(kept, npy_bytes(values))
        return np.asarray(values, np.float64)


class Table(Contender):
    """Embeddings that are there already: tables of ``retina-fm encode``, matched by paths."""

    gives_features = True

    def __init__(self, name: str, files: Sequence[str | Path]) -> None:
        self.name, self.files = name, [Path(file) for file in files]
        self._rows: dict[Path, Any] | None = None

    def identity(self) -> dict[str, Any]:
        """What the tables say about themselves, and a hash of their numbers."""
        import pyarrow.parquet as pq

        rows = self._read()
        digest = hashlib.sha256()
        for path in sorted(rows):
            digest.update(np.asarray(rows[path], np.float32).tobytes())
        metadata = pq.read_schema(self.files[0]).metadata or {}
        said = {
            key: metadata.get(key.encode(), b"").decode()
            for key in ("model", "weights_sha256", "transform_hash")
        }
        return {"kind": "table", **said, "rows": len(rows), "embeddings_sha256": digest.hexdigest()}

    def features(self, manifest: Manifest, cache: Path) -> Floats:  # noqa: ARG002
        """Rows of the tables, by path.

        Raises:
            ConfigError: a picture of the set is in none of the tables.
        """
        rows = self._read()
        missing = [row.name for row in manifest.rows if row.path.resolve() not in rows]
        if missing:
            raise ConfigError(
                f"{self.name}: {len(missing)} of {len(manifest.rows)} pictures of {manifest.name} are "
                f"in none of its tables, the first {missing[0]}. Encode them with: retina-fm encode"
            )
        return np.array([rows[row.path.resolve()] for row in manifest.rows], np.float64)

    def _read(self) -> dict[Path, Any]:
        if self._rows is None:
            import pyarrow.parquet as pq

            self._rows = {}
            for file in self.files:
                try:
                    check_parquet(file)
                    columns = pq.read_table(file, columns=["path", "embedding"])
                except (OSError, ValueError, KeyError) as error:
                    raise ConfigError(f"{file} is no table of embeddings ({error}).") from None
                vectors = columns["embedding"].to_pylist()
                for path, vector in zip(columns["path"].to_pylist(), vectors, strict=True):
                    self._rows[(file.parent / path).resolve()] = vector
        return self._rows


class Fused(Contender):
    """Several contenders' features side by side; the MLP head fuses them by soft attention."""

    gives_features = True

    def __init__(self, name: str, parts: Sequence[Contender]) -> None:
        self.name, self.parts = name, list(parts)

    def identity(self) -> dict[str, Any]:
        """Of all parts."""
        return {"kind": "fused", "parts": {part.name: part.identity() for part in self.parts}}

    def features(self, manifest: Manifest, cache: Path) -> Floats:
        """Columns of the parts, in order."""
        blocks = [part.features(manifest, cache) for part in self.parts]
        self.widths = tuple(block.shape[1] for block in blocks)
        return np.concatenate(blocks, 1)


class VesselsOnly(Contender):
    """A method that segments and gives no features: ``frangi``, ``unet-scratch`` or ``medical-sam2``."""

    def __init__(self, name: str, folder: str = "") -> None:
        self.name, self.folder = name, folder

    def identity(self) -> dict[str, Any]:
        """What it is."""
        return {"kind": "vessels only"}

    def vessels(self, settings: Settings) -> VesselMethod:
        """The method of its name."""
        if self.folder:
            return sam2(self.name, self.folder, settings)
        return VESSELS_ONLY[self.name](settings)


class Videos(Contender):
    """Videos that another method left in a folder; it gives no features."""

    def __init__(self, name: str, folder: str) -> None:
        self.name, self.folder = name, folder

    def identity(self) -> dict[str, Any]:
        """Where they are from."""
        return {"kind": "videos", "about": f"videos of {self.name}"}

    def videos(self) -> VideoSource | str:
        """Those of the folder."""
        try:
            return from_folder(self.name, self.folder)
        except ConfigError as error:
            return str(error)


VESSELS_ONLY = {"frangi": frangi, "unet-scratch": scratch}
SAM2 = "medical-sam2"
"""Written ``medical-sam2=FOLDER``."""


def make_contender(text: str, tables: Sequence[str] = (), size: int | None = None) -> Contender:
    """A contender from what was written on the command line.

    Args:
        text: a registered name, a folder, ``NAME=FOLDER`` to call it so, a baseline, ``A+B`` to fuse, or
            ``seg2vid=FOLDER`` and its like for videos.
        tables: ``NAME=FILE`` of tables whose embeddings are used instead of the model's.
        size: of views instead of the models' own.

    Raises:
        ConfigError: nothing of that name.
    """
    name, _, source = text.partition("=")
    files = [table.partition("=")[2] for table in tables if table.partition("=")[0] == name]
    if files:
        return Table(name, files)
    if not source and "+" in name:
        parts = [make_contender(part, tables, size) for part in name.split("+")]
        if not all(part.gives_features for part in parts):
            raise ConfigError(f"{name}: {', '.join(VESSELS_ONLY)} give no features to fuse.")
        return Fused(name, parts)
    if name in OTHERS and source:
        return Videos(name, source)
    if name == SAM2 and source:
        return VesselsOnly(name, source)
    if name in VESSELS_ONLY:
        return VesselsOnly(name)
    if name in BASELINES:
        return Baseline(name)
    return Encoder(name if source else Path(name).name or name, source or name, size)
