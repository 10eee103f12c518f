"""Optional perceptual loss: VGG-19 features, from a file that the user has."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from retina_fm.errors import WeightsError, WeightsNotFoundError

_PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512)
_SLICES = (1, 6, 11, 20, 29)  # relu1_1, relu2_1, relu3_1, relu4_1, relu5_1
_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)  # as in pix2pixHD


class PerceptualFeatures(nn.Module):
    """L1 between VGG-19 features of generated and of true frames.

    Source: pix2pixHD's perceptual term (Wang et al., CVPR 2018), after Johnson et al. (ECCV 2016).
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in _PLAN:
            if width:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Frames ``(B, 3, H, W)`` in [-1, 1], the triple taken for three colours as the public code does."""
        first, second = (((x + 1) / 2 - self.mean) / self.std for x in (prediction, target))
        total = prediction.new_zeros(())
        for index, layer in enumerate(self.features):
            first, second = layer(first), layer(second)
            if index in _SLICES:
                total = total + _WEIGHTS[_SLICES.index(index)] * (first - second.detach()).abs().mean()
        return total


def load_perceptual(path: str | Path) -> PerceptualFeatures:
    """VGG-19 from a file with torchvision's keys (``features.0.weight`` and so on).

    Raises:
        WeightsNotFoundError: there is no such file.
        WeightsError: a tensor is missing or has another shape.
    """
    from retina_fm.models.convert import read_checkpoint

    if not Path(path).is_file():
        raise WeightsNotFoundError(f"There is no file {path} with VGG-19 weights. Check the path.")
    values = read_checkpoint(Path(path))
    module = PerceptualFeatures()
    state = module.state_dict()
    for key in state:
        if key.startswith("features."):
            if key not in values or values[key].shape != state[key].shape:
                raise WeightsError(
                    f"{path} has no {key} of shape {tuple(state[key].shape)}; it is no VGG-19."
                )
            state[key] = values[key].float()
    module.load_state_dict(state)
    return module.eval()
