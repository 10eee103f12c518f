"""An index of a folder of photographs, its duplicates, and what is nearest to a query.

python examples/find_the_same_patient.py photos/ query.png hits.html [MODEL]
"""

from __future__ import annotations

import sys

import retina_fm


def main(photos: str, query: str, gallery: str, model: str = "fundus2video") -> None:
    index = retina_fm.index(photos, model)  # kept in photos/.retina-fm-index, brought up to date next time
    print(index, index.report)
    for pair in index.duplicates():
        print(f"twice: {pair.first} and {pair.second}")
    hits = index.search(query, k=5)
    for hit in hits:
        print(f"{hit.rank}. {hit.path} {hit.score:.3f}")
    hits.save_gallery(gallery, title="Similar eyes")


if __name__ == "__main__":
    main(*sys.argv[1:])
