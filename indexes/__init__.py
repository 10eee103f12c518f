"""Persistent similarity search over embeddings: exact, filtered, and safe on disk.

Names are loaded on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retina_fm._doors import lazy_names

_HOMES = {
    "Duplicate": "retina_fm.indexes.duplicates",
    "Hit": "retina_fm.indexes.hits",
    "Hits": "retina_fm.indexes.hits",
    "ImageIndex": "retina_fm.indexes.image_index",
    "Interval": "retina_fm.metrics.intervals",
    "RecallReport": "retina_fm.indexes.recall",
    "SameEyePairs": "retina_fm.indexes.duplicates",
    "Space": "retina_fm.indexes.space",
    "index": "retina_fm.indexes.opening",
    "nearest_rows": "retina_fm.indexes.exact",
    "patient_bootstrap": "retina_fm.metrics.intervals",
    "recall_at_k": "retina_fm.indexes.recall",
    "rebuild": "retina_fm.indexes.repair",
    "recall_by_pair": "retina_fm.indexes.recall",
    "same_eye_pairs": "retina_fm.indexes.duplicates",
    "save_gallery": "retina_fm.indexes.gallery",
    "save_map": "retina_fm.indexes.map",
    "Sql": "retina_fm.indexes.where",
    "verify": "retina_fm.indexes.store",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)

if TYPE_CHECKING:
    from retina_fm.indexes.duplicates import Duplicate as Duplicate
    from retina_fm.indexes.duplicates import SameEyePairs as SameEyePairs
    from retina_fm.indexes.duplicates import same_eye_pairs as same_eye_pairs
    from retina_fm.indexes.exact import nearest_rows as nearest_rows
    from retina_fm.indexes.gallery import save_gallery as save_gallery
    from retina_fm.indexes.hits import Hit as Hit
    from retina_fm.indexes.hits import Hits as Hits
    from retina_fm.indexes.image_index import ImageIndex as ImageIndex
    from retina_fm.indexes.map import save_map as save_map
    from retina_fm.indexes.opening import index as index
    from retina_fm.indexes.recall import RecallReport as RecallReport
    from retina_fm.indexes.recall import recall_at_k as recall_at_k
    from retina_fm.indexes.recall import recall_by_pair as recall_by_pair
    from retina_fm.indexes.repair import rebuild as rebuild
    from retina_fm.indexes.space import Space as Space
    from retina_fm.indexes.store import verify as verify
    from retina_fm.indexes.where import Sql as Sql
    from retina_fm.metrics.intervals import Interval as Interval
    from retina_fm.metrics.intervals import patient_bootstrap as patient_bootstrap
