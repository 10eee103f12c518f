"""How far a model's maps can be believed: figures that its weights folder states, and which suffice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from retina_fm.configuration import Configuration
from retina_fm.vocabulary import LESION_TYPES

MOST_HEALTHY = 0.005
"""Share of a healthy photograph that a map of lesions may mark at its threshold, on average."""
LEAST_PRECISION = 0.5
"""Share of what a map of lesions marks that has to be the lesion."""
LEAST_RECALL = 0.1
"""Share of the labels' pixels that it has to mark: one that marks nothing is precise."""
LESION_FROM = 0.5
"""Probability from which a pixel counts as a lesion where no threshold is stated."""
LEAST_BALANCED_ACCURACY = 0.8
"""Of artery against vein over labelled pixels of vessels; a coin has 0.5."""
LEAST_AGREEMENT = 0.45
"""Correlation of a number with the same off labels; of 20 photographs chance gives more in one set of 20."""

_Share = Annotated[float, Field(ge=0, le=1)]


class Reliability(Configuration):
    """Figures of one map or number, measured on photographs that its model never saw with labels.

    Attributes:
        on: which photographs, and how many.
        threshold: probability from which a pixel counts, set on other photographs; 0.5 without it.
        healthy_share: share of healthy photographs' fields marked at the threshold, mean.
        precision: share of marked pixels that the labels mark too, pooled over photographs.
        recall: share of the labels' pixels that are marked.
        agreement: of a number, not a map: its correlation over photographs with the same read off labels.
        balanced_accuracy: mean of both kinds' shares of right pixels (arteries and veins).
    """

    section: ClassVar[str] = "reliability"

    on: str
    threshold: _Share | None = None
    healthy_share: _Share | None = None
    precision: _Share | None = None
    recall: _Share | None = None
    balanced_accuracy: _Share | None = None
    agreement: Annotated[float, Field(ge=-1, le=1)] | None = None


def fault_of(stated: Mapping[str, Reliability], name: str) -> str | None:
    """Why a map is not to be relied on, with the figures; None where it is.

    Args:
        stated: by the model, by name of map.
        name: a lesion type, ``artery`` or ``vein``; or a number, for which figures may be stated.
    """
    found = stated.get(name)
    if name not in (*LESION_TYPES, "artery", "vein"):
        return None if found is None else _fault_of_number(found)
    if found is None:
        return f"no reliability of the {name} map is stated"
    if name in LESION_TYPES:
        return _fault_of_lesions(found)
    reached = found.balanced_accuracy
    if reached is None:
        return f"its balanced accuracy was not measured ({found.on})"
    if reached < LEAST_BALANCED_ACCURACY:
        return f"balanced accuracy {reached:.2f}, {LEAST_BALANCED_ACCURACY} is needed ({found.on})"
    return None


def _fault_of_number(found: Reliability) -> str | None:
    if found.agreement is None or found.agreement >= LEAST_AGREEMENT:
        return None
    return (
        f"its correlation with the same off labels is {found.agreement:.2f}, {LEAST_AGREEMENT} is needed "
        f"({found.on})"
    )


def _fault_of_lesions(found: Reliability) -> str | None:
    if found.healthy_share is None or found.healthy_share > MOST_HEALTHY:
        marked = (
            "was not measured" if found.healthy_share is None else f"is {100 * found.healthy_share:.2f} %"
        )
        return (
            f"the share marked on healthy photographs {marked}, at most {100 * MOST_HEALTHY} % is needed "
            f"({found.on})"
        )
    if found.precision is None or found.recall is None:
        return f"it was never measured against labels ({found.on})"
    if found.precision < LEAST_PRECISION or found.recall < LEAST_RECALL:
        return (
            f"precision {found.precision:.2f} and recall {found.recall:.2f}, {LEAST_PRECISION} and "
            f"{LEAST_RECALL} are needed ({found.on})"
        )
    return None


def threshold_in(stated: Mapping[str, Reliability], lesion: str) -> float:
    """Probability from which a pixel of a lesion's map counts."""
    found = stated.get(lesion)
    return LESION_FROM if found is None or found.threshold is None else found.threshold
