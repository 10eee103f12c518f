"""A labels.csv with the columns path, label and patient_id to a classifier, judged on patients held back.

python examples/classify_with_labels.py photos/labels.csv classifier/ [MODEL]
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupShuffleSplit

import retina_fm
from retina_fm import adapters


def main(table: str, out: str, model: str = "fundus2video") -> None:
    with Path(table).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    photos = [str(Path(table).parent / row["path"]) for row in rows]
    labels, patients = [row["label"] for row in rows], [row["patient_id"] for row in rows]
    splitter = GroupShuffleSplit(1, test_size=0.3, random_state=0)
    train, test = next(splitter.split(photos, labels, patients))  # a patient is on one side only

    classifier = retina_fm.adapt("classification", model=model, head="linear")
    classifier.fit(
        [photos[i] for i in train], [labels[i] for i in train], groups=[patients[i] for i in train]
    )
    classifier.save(out)

    again = adapters.load(out, task="classification")
    scores = again.predict_proba([photos[i] for i in test])
    wanted = [labels[i] for i in test]
    print(again)
    if len(again.classes_) == 2 and len(set(wanted)) == 2:
        right = [label == again.classes_[1] for label in wanted]
        print(f"AUROC on {len(test)} photos of other patients: {roc_auc_score(right, scores[:, 1]):.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
