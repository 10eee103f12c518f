"""The encoder in a training loop of one's own: a Dataset with the transform, a head, two learning rates.

python examples/fine_tune_in_torch.py photos/ mine/ [MODEL] [EPOCHS]
Labels are the names of the folders in photos/.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

import retina_fm


class Photos(Dataset[tuple[torch.Tensor, int]]):
    def __init__(self, folder: str, transform: retina_fm.Transform) -> None:
        self.classes = sorted(path.name for path in Path(folder).iterdir() if path.is_dir())
        self.files = [path for name in self.classes for path in sorted(Path(folder, name).iterdir())]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        path = self.files[number]
        return self.transform(path), self.classes.index(path.parent.name)


def main(photos: str, out: str, model: str = "fundus2video", epochs: str = "5") -> None:
    encoder = retina_fm.load(model)
    data = Photos(photos, encoder.transform)
    encoder.reset_classifier(len(data.classes))
    head = list(encoder.head.parameters())
    known = {id(parameter) for parameter in head}
    body = [parameter for parameter in encoder.parameters() if id(parameter) not in known]
    optimiser = torch.optim.AdamW([{"params": head, "lr": 1e-3}, {"params": body, "lr": 1e-5}])
    encoder.train()
    for epoch in range(int(epochs)):
        for views, labels in DataLoader(data, batch_size=4, shuffle=True):
            loss = torch.nn.functional.cross_entropy(encoder.head(encoder(views).pooled), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")
    encoder.eval().save_pretrained(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
