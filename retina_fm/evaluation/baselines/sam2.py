"""Medical-SAM2 for vessels, through transformers' SAM 2 classes and the user's checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from retina_fm._vision import import_vision
from retina_fm.errors import MissingDependencyError, WeightsError, WeightsNotFoundError
from retina_fm.evaluation.baselines.unet import THRESHOLDS
from retina_fm.learning import cosine, entropy_and_dice
from retina_fm.metrics.scores import best_threshold
from retina_fm.pictures import Transform

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Sam2Vessels:
    """SAM 2 prompted with a box round the whole view; its mask decoder is trained on a few pictures.

    The image encoder stays frozen, so its features are computed once an example. Without examples the
    promptable model is read as it is.

    Args:
        folder: a checkpoint in transformers' layout (``config.json`` and safetensors).
        steps: of training, one example a step.
        rate: peak learning rate of the decoder.
        seed: of the order.

    Attributes:
        threshold_: probability from which a pixel is a vessel, chosen on the examples; 0.5 without any.
    """

    def __init__(self, folder: str | Path, *, steps: int = 100, rate: float = 1e-4, seed: int = 0) -> None:
        self.model = load_sam2(folder)
        self.steps, self.rate, self.seed, self.threshold_ = steps, rate, seed, 0.5
        self.transform = Transform(size=_image_size(self.model), mean=_MEAN, std=_STD)

    def fit(self, photos: Sequence[Path], masks: Sequence[NDArray[np.bool_]]) -> Sam2Vessels:
        """Train the mask decoder on photos and their masks ``(H, W)``."""
        examples = [self._example(path, mask) for path, mask in zip(photos, masks, strict=True)]
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        tuned = list(self.model.mask_decoder.parameters())
        for parameter in tuned:
            parameter.requires_grad_(True)
        optimiser = torch.optim.AdamW(tuned, lr=self.rate)
        random = np.random.Generator(np.random.PCG64(self.seed))
        for step in range(self.steps):
            features, target, inside = examples[int(random.integers(len(examples)))]
            for group in optimiser.param_groups:
                group["lr"] = self.rate * cosine(step / self.steps)
            optimiser.zero_grad()
            loss = entropy_and_dice(self._logits(features), target, inside.float())
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        found = [(torch.sigmoid(self._logits(f)).detach(), t > 0.5, i) for f, t, i in examples]
        self.threshold_ = best_threshold(found, THRESHOLDS)
        return self

    @torch.no_grad()
    def predict_proba(self, path: Path) -> NDArray[np.float32]:
        """Probability of a vessel in the photo's own pixels, ``float32 (H, W)``, 0 outside."""
        view, geometry = self.transform.view(path)
        tensor = torch.from_numpy(self.transform.normalise(view))[None]
        found = torch.sigmoid(self._logits(self.model.get_image_embeddings(tensor))).numpy()
        score = geometry.picture_of(found, "bilinear").astype(np.float32)
        return np.asarray(np.where(geometry.mask_in_picture(), score, np.float32(0)))

    def _example(self, path: Path, mask: NDArray[np.bool_]) -> tuple[Any, Tensor, Tensor]:
        view, geometry = self.transform.view(path)
        tensor = torch.from_numpy(self.transform.normalise(view))[None]
        with torch.no_grad():
            features = self.model.get_image_embeddings(tensor)
        target = torch.from_numpy(geometry.view_of(mask.astype(np.float32), "area"))
        return features, target, torch.from_numpy(geometry.mask_in_view())

    def _logits(self, features: Any) -> Tensor:
        """Logits ``(S, S)`` of the view."""
        size = self.transform.size
        box = torch.tensor([[[0.0, 0.0, size, size]]])
        masks = self.model(image_embeddings=features, input_boxes=box, multimask_output=False).pred_masks
        low = masks.reshape(1, 1, *masks.shape[-2:])
        return F.interpolate(low, (size, size), mode="bilinear", align_corners=False)[0, 0]


def load_sam2(folder: str | Path) -> Any:
    """A SAM 2 model from a folder in transformers' layout; nothing is downloaded and no pickle is read.

    Raises:
        MissingDependencyError: transformers is not installed.
        WeightsNotFoundError: there is no such folder.
        WeightsError: it holds another model, or tensors are missing.
    """
    try:
        module = import_vision("transformers.models.sam2.modeling_sam2")
    except ImportError:
        raise MissingDependencyError(
            "SAM 2 needs transformers, which is not installed. Install it with: pip install "
            "transformers (or '.[sam2]' in a checkout)"
        ) from None
    place = Path(folder)
    if not (place / "config.json").is_file():
        raise WeightsNotFoundError(f"{place} has no config.json of a SAM 2 checkpoint. Check the folder.")
    try:
        model, report = module.Sam2Model.from_pretrained(
            place, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{place} cannot be loaded as SAM 2 ({error}).") from None
    if report["missing_keys"]:
        raise WeightsError(f"{place} lacks {len(report['missing_keys'])} tensors of SAM 2; convert it again.")
    return model.eval()


def _image_size(model: Any) -> int:
    size = model.config.vision_config.backbone_config.image_size
    return int(size[0] if isinstance(size, list | tuple) else size)
