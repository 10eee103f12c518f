"""Any form of photo to a picture, its field of view and its view, and back. Never imports torch."""

from retina_fm._io.pseudonyms import Pseudonyms
from retina_fm.pictures.field_of_view import Circle, find_field_of_view
from retina_fm.pictures.geometry import Geometry
from retina_fm.pictures.reading import describe, read_picture
from retina_fm.pictures.sources import count, expand, is_single
from retina_fm.pictures.transform import Transform

__all__ = [
    "Circle",
    "Geometry",
    "Pseudonyms",
    "Transform",
    "count",
    "describe",
    "expand",
    "find_field_of_view",
    "is_single",
    "read_picture",
]
