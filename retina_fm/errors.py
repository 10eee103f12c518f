"""Every error of the project, each also a built-in kind, so that callers may catch either.

A message has three parts: what is wrong, with which thing, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class RetinaError(Exception):
    """Base of all errors that this package raises on purpose."""


class PictureError(RetinaError, ValueError):
    """A photo that cannot be turned into a picture; the message names it and the cause."""


class PictureTooLargeError(PictureError):
    """A photo of more pixels than are read; it is refused before it is decoded."""


class NoPicturesError(PictureError, FileNotFoundError):
    """A folder, glob or file that holds no picture at all."""


class ViewError(RetinaError, ValueError):
    """A tensor that the network cannot take: wrong rank, size, type or value."""


class TransformMismatchError(RetinaError, ValueError):
    """Stored features were made with another transform than the one at hand."""


class UnknownModelError(RetinaError, ValueError):
    """A model name that the registry does not know."""


class WeightsNotFoundError(RetinaError, FileNotFoundError):
    """Weights that lie in none of the places that were searched."""


class WeightsError(RetinaError, ValueError):
    """Weights that are there but must not be used: wrong hash, wrong keys, wrong kind of file."""


class ConfigError(RetinaError, ValueError):
    """A settings file or argument that makes no sense; the message names the field."""


class MissingDependencyError(RetinaError, ImportError):
    """An optional package that is needed here; the message names the extra that brings it."""


class OutputError(RetinaError, RuntimeError):
    """A result that cannot be written or continued where the caller wants it."""


class MergeError(RetinaError, ValueError):
    """Tables of shards that do not make a whole; the message names each file at fault."""


class WorkerError(RetinaError, RuntimeError):
    """A worker process that ended before its work was done; the message names the work."""


class IndexNotFoundError(RetinaError, FileNotFoundError):
    """A folder that holds no index."""


class IndexMismatchError(RetinaError, ValueError):
    """An index made with another model, transform, metric or dimension than the one at hand."""


class IndexDamagedError(RetinaError, RuntimeError):
    """Files of an index that are cut, changed or missing; the message says what remains."""


class ManifestError(RetinaError, ValueError):
    """A manifest that cannot be evaluated on; the message names the rows and the remedy."""


class LeakError(ManifestError):
    """Pictures of one patient, or one picture twice, in parts that must not share any."""


class LayoutError(ManifestError):
    """A folder that is not the official download of the data set named."""


class ManifestWarning(UserWarning):
    """Something about a manifest that the reader of a result should know."""


class SkippedPictures(UserWarning):
    """Photos left out by ``on_error="skip"``.

    Attributes:
        indices: positions in the input, in order.
        reasons: one message a position.
    """

    def __init__(self, indices: Sequence[int], reasons: Sequence[str]) -> None:
        self.indices = list(indices)
        self.reasons = list(reasons)
        shown = "; ".join(self.reasons[:3])
        more = f"; and {len(self.reasons) - 3} more" if len(self.reasons) > 3 else ""
        super().__init__(f"{len(self.indices)} photos were skipped: {shown}{more}")


class MetadataWarning(UserWarning):
    """Metadata that belongs to no picture of an index, and was left out."""


class ViewWarning(UserWarning):
    """A view whose values are not those that a network takes."""


class LicenceNotice(UserWarning):
    """A model whose licence asks for more than attribution was loaded."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the known word nearest to ``name``, or lists them all."""
    words = sorted(known)
    close = get_close_matches(name, words, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(words)}."
