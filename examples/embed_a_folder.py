"""A folder of photographs to a table, and each photo's nearest neighbour.

python examples/embed_a_folder.py photos/ embeddings.csv [MODEL]
"""

from __future__ import annotations

import sys

import numpy as np

import retina_fm


def main(photos: str, out: str, model: str = "fundus2video") -> None:
    report = retina_fm.encode_to(photos, out, model, on_error="skip", overwrite=True)
    print(report)
    embeddings = retina_fm.encode(photos, model)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -1)
    for number, nearest in enumerate(cosine.argmax(1).tolist()):
        print(f"photo {number}: nearest is {nearest} ({cosine[number, nearest]:.3f})")


if __name__ == "__main__":
    main(*sys.argv[1:])
