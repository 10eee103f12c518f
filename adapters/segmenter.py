"""A segmenter of photos: encoder, U-Net decoder, masks in the photos' own pixels."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from retina_fm.adapters.examples.few_shot import check_groups, draw_pictures
from retina_fm.adapters.examples.splits import refuse_shared_patients, validation_split
from retina_fm.adapters.examples.views import View, target_of, view_of, working_transform
from retina_fm.adapters.extraction import (
    Compute,
    Identity,
    device_of,
    encoder_of,
    identity_of,
    photo_list,
)
from retina_fm.adapters.photo_estimator import TUNES
from retina_fm.adapters.segmentation.decoder import MapDecoder, MapSource
from retina_fm.adapters.segmentation.items import ItemMaker
from retina_fm.adapters.segmentation.prediction import (
    best_threshold,
    photo_probabilities,
    view_probabilities,
)
from retina_fm.adapters.segmentation.training import Plan, train_decoder
from retina_fm.adapters.tuning import tunable_copy
from retina_fm.errors import ConfigError
from retina_fm.learning import seeded
from retina_fm.pictures import describe
from retina_fm.pictures.masks import (
    checked_classes,
    class_indices,
    dice,
    mask_classes,
    mask_list,
    read_mask,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Self


def default_steps(photos: int) -> int:
    """1000 for one photo, 2000 for sixteen: one draw of RITE gained by 1000 for one and 1200 for eight."""
    return round(1000 * math.pow(photos, 0.25))


class FundusSegmenter(BaseEstimator):  # type: ignore[misc]
    """Photos to masks, binary or multi-class, in scikit-learn's style; few examples are enough.

    Args:
        model: encoder, by a name that ``retina_fm.load`` takes, or a loaded one.
        shots: photos that ``fit`` draws; None takes all; 0 needs no ``fit`` and reads ``target`` off the
            model itself.
        target: with ``shots=0``: ``vessels`` from the generated angiogram, or a lesion type.
        tune: ``head`` keeps the encoder frozen and its maps computed once, ``last`` or ``all`` train it too.
        decoder: ``light`` (seconds on a laptop) or ``full`` (U-Net's usual width).
        classes: the mask values that are classes, background first; None takes those found.
        mask_threshold: mask values above it are foreground; None takes values as classes.
        view_size: edge of the working view; None is the encoder's own. Larger views are cut into tiles.
        steps: of training, at most; None takes 1000 for one photo and more for more.
        max_seconds: of training; the result then depends on the machine's speed.
        validation: share of photos set aside where there are at least eight, to stop early.
        augment: vary views in training.
        test_flips: average predictions over flipped views.
        memory_gb: for maps kept in memory.
        seed: of everything random.
        device: the first GPU or the CPU without it.
        dtype: ``"auto"`` takes bfloat16 where it is native.
        progress: a bar; None shows it on a terminal.

    Attributes:
        classes_: mask values of the classes, background first.
        threshold_: probability from which a pixel is foreground (two classes), chosen on the support set.
        module_: the decoder, a ``torch.nn.Module``.
        encoders_: identity of the encoder.
        tuned_: the encoder as it was trained along; only with ``tune`` other than ``head``.
        drawn_, drawn_names_: positions and names of the photos trained on.
        history_: loss and validation Dice by step and second.
    """

    tuned_: Any

    def __init__(
        self,
        model: Any = "fundus2video",
        *,
        shots: int | None = None,
        target: str = "vessels",
        tune: str = "head",
        decoder: str = "light",
        classes: Any = None,
        mask_threshold: float | None = None,
        view_size: int | None = None,
        steps: int | None = None,
        max_seconds: float | None = None,
        validation: float = 0.2,
        augment: bool = True,
        test_flips: bool = False,
        memory_gb: float = 1.5,
        seed: int = 0,
        device: str | None = None,
        dtype: str = "auto",
        progress: bool | None = None,
    ) -> None:
        self.model = model
        self.shots = shots
        self.target = target
        self.tune = tune
        self.decoder = decoder
        self.classes = classes
        self.mask_threshold = mask_threshold
        self.view_size = view_size
        self.steps = steps
        self.max_seconds = max_seconds
        self.validation = validation
        self.augment = augment
        self.test_flips = test_flips
        self.memory_gb = memory_gb
        self.seed = seed
        self.device = device
        self.dtype = dtype
        self.progress = progress

    def fit(self, photos: Any, masks: Any = None, groups: Any = None, val: Any = None) -> Self:
        """Learn from photos and masks.

        Args:
            photos: many photos in any form.
            masks: a file or array ``(H, W)`` a photo, in the photo's own pixels, or a folder whose files are
                named as the photos.
            groups: ``(N,)`` patients.
            val: ``(photos, masks)`` or ``(photos, masks, groups)`` to validate on.

        Raises:
            ConfigError: masks of another size, of grey values, without foreground; fewer photos than shots; a
                patient in both parts.
            PictureError: a photo or mask that cannot be read.
        """
        if self.shots == 0:
            return self  # nothing to learn: the model itself is read
        found = photo_list(photos)
        if masks is None:
            raise ConfigError("Masks are missing: fit(photos, masks) needs one a photo; or use shots=0.")
        given = mask_list(masks, found)
        patients = check_groups(groups, len(found))
        chosen = np.arange(len(found))
        if self.shots is not None:
            chosen = draw_pictures(len(found), self.shots, seed=self.seed, groups=patients).drawn
        self.drawn_ = chosen
        self.drawn_names_ = [_name(found[p], p) for p in chosen.tolist()]
        views, targets = self._examples([found[p] for p in chosen], [given[p] for p in chosen])
        held: list[int] = []
        train = list(range(len(views)))
        if val is None and len(views) >= 8:
            first, second = validation_split(None, patients[chosen], self.validation, self.seed)
            train, held = first.tolist(), second.tolist()
        views_held, targets_held = [views[i] for i in held], [targets[i] for i in held]
        if val is not None:
            others = photo_list(val[0])
            if len(val) > 2 and val[2] is not None and groups is not None:
                refuse_shared_patients(patients[chosen], check_groups(val[2], len(others)))
            views_held, targets_held = self._examples(others, mask_list(val[1], others), known=True)
        self._train([views[i] for i in train], [targets[i] for i in train], views_held, targets_held)
        return self

    def predict_proba(self, photos: Any) -> list[np.ndarray]:
        """Probabilities in the photos' pixels: ``float32 (H, W)`` of the foreground, or ``(H, W, C)``."""
        found = photo_list(photos)
        if self.shots == 0:
            from retina_fm.adapters.zero_shot import read_target

            return read_target(found, self.target, self.model, self._compute())
        self._check_fitted()
        source, transform = self._source(), self._transform()
        probabilities = []
        for photo in found:
            view = view_of(photo, transform)
            probabilities.append(photo_probabilities(self._in_view(view, source), view))
        return probabilities

    def predict(self, photos: Any) -> list[np.ndarray]:
        """Label maps in each photo's own pixels, ``uint8 (H, W)``: positions in ``classes_``."""
        # photo by photo: probabilities of many large photos do not fit into memory together
        return [self.label(self.predict_proba([photo])[0]) for photo in photo_list(photos)]

    def label(self, probability: np.ndarray) -> np.ndarray:
        """One photo's probabilities, as from :meth:`predict_proba`, to its label map ``uint8 (H, W)``."""
        if self.shots == 0:
            from retina_fm.adapters.zero_shot import threshold_of

            return (probability >= threshold_of(self.target, probability)).astype(np.uint8)
        if probability.ndim == 2:
            return (probability >= self.threshold_).astype(np.uint8)
        return np.asarray(probability.argmax(2), np.uint8)

    def score(self, photos: Any, masks: Any) -> float:
        """Mean Dice over photos and foreground classes, in the photos' own pixels."""
        found = photo_list(photos)
        classes = getattr(self, "classes_", np.array([0, 1]))
        threshold = 0 if self.shots == 0 else self.mask_threshold
        values = []
        for photo, mask, label in zip(found, mask_list(masks, found), self.predict(found), strict=True):
            name = describe(photo)
            wanted = class_indices(read_mask(mask, label.shape, name), classes, threshold, name)
            values.append(float(np.mean([dice(label == c, wanted == c) for c in range(1, len(classes))])))
        return float(np.mean(values))

    def save(self, folder: str | Path, *, licence: str | None = None) -> Path:
        """Write the adapter as a folder of safetensors and JSON; see :func:`retina_fm.adapters.save`."""
        from retina_fm.adapters.saving import save

        return save(self, folder, licence=licence)

    def __sklearn_is_fitted__(self) -> bool:
        return self.shots == 0 or hasattr(self, "module_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True
        return tags

    def _train(self, views: Any, targets: Any, views_held: Any, targets_held: Any) -> None:
        compute, count = self._compute(), len(self.classes_)
        if self.tune not in TUNES:
            raise ConfigError(f"tune is {self.tune!r}; use {', '.join(map(repr, TUNES))}.")
        if hasattr(self, "tuned_"):
            del self.tuned_
        tuned: list[torch.nn.Parameter] = []
        if self.tune != "head":
            self.tuned_, tuned = tunable_copy(encoder_of(self.model, compute), self.tune)
        source, transform = self._source(), self._transform()
        self.encoders_: list[Identity] = [identity_of(source.encoder)]
        maker = ItemMaker(
            views,
            targets,
            transform,
            self._tile(),
            source,
            seed=self.seed,
            augment=self.augment,
            keep_maps=not tuned,
            map_dtype=compute.torch_dtype,
            device=device_of(source.encoder),
        )
        with seeded(self.seed):
            module = self._new_module(source, 1 if count == 2 else count)
        module = module.to(device_of(source.encoder)).to(memory_format=torch.channels_last)
        validate = None
        if views_held:
            validate = lambda decoder: self._dice(decoder, source, views_held, targets_held)  # noqa: E731
        steps = default_steps(len(views)) if self.steps is None else self.steps
        if steps < 1 or (self.max_seconds is not None and self.max_seconds <= 0):
            raise ConfigError(f"steps={self.steps}, max_seconds={self.max_seconds}: both are above 0.")
        plan = Plan(
            steps=steps,
            check=max(25, steps // 16),
            max_seconds=self.max_seconds,
            memory=int(self.memory_gb * 1e9),
            side=min(128, self._tile() // 2),
        )
        self.module_, self.history_ = train_decoder(
            module, maker, plan, tuned=tuned, validate=validate, seed=self.seed, progress=self.progress
        )
        self.threshold_ = 0.5
        if count == 2:
            support = (views_held, targets_held) if views_held else (views[:8], targets[:8])
            self._choose_threshold(source, *support)

    def _new_module(self, source: MapSource, outputs: int) -> Any:
        return MapDecoder(source, outputs, self.decoder)

    def _choose_threshold(self, source: MapSource, views: Any, targets: Any) -> None:
        found, wanted = [], []
        for view, target in zip(views, targets, strict=True):
            found.append(self._in_view(view, source)[0][view.inside])
            wanted.append(target[0][view.inside] >= 0.5)
        self.threshold_ = best_threshold(found, wanted)

    def _dice(self, decoder: Any, source: MapSource, views: Any, targets: Any) -> float:
        values = []
        for view, target in zip(views, targets, strict=True):
            found = self._in_view(view, source, decoder)
            if len(found) == 1:
                values.append(dice(found[0] >= 0.5, target[0] >= 0.5))
            else:
                best, wanted = found.argmax(0), target.argmax(0)
                scores = [dice(best == c, wanted == c) for c in range(1, len(found))]
                values.append(float(np.mean(scores)))
        return float(np.mean(values))

    def _in_view(self, view: View, source: MapSource, decoder: Any = None) -> np.ndarray:
        return view_probabilities(
            decoder if decoder is not None else self.module_,
            source,
            view,
            self._transform(),
            self._tile(),
            flips=self.test_flips,
            device=device_of(source.encoder),
        )

    def _examples(self, photos: Any, masks: Any, known: bool = False) -> tuple[list[View], list[np.ndarray]]:
        """Views, and coverage of the classes in them; the classes are found here unless they are known.

        Masks are read one at a time, twice where classes are to be found: views are small, photos are not.
        """
        views = [view_of(photo, self._transform()) for photo in photos]
        names = [_name(photo, position) for position, photo in enumerate(photos)]

        def read() -> Iterator[np.ndarray]:
            for mask, view, name in zip(masks, views, names, strict=True):
                yield read_mask(mask, (view.geometry.height, view.geometry.width), name)

        if not known:
            found = mask_classes(read(), names, self.mask_threshold) if self.classes is None else self.classes
            self.classes_ = checked_classes(found)
        targets, empty = [], []
        for mask, view, name in zip(read(), views, names, strict=True):
            label = class_indices(mask, self.classes_, self.mask_threshold, name)
            targets.append(target_of(label, view, len(self.classes_)))
            if not label.any():
                empty.append(name)
        if empty:
            warnings.warn(
                f"{len(empty)} masks have no foreground ({', '.join(empty[:3])}); they count as pictures "
                "without any.",
                stacklevel=3,
            )
        return views, targets

    def _check_fitted(self) -> None:
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)

    def models(self) -> list[Any]:
        """The encoders, the leading one first, as they were given."""
        return [self.model]

    def _compute(self) -> Compute:
        return Compute(self.device, self.dtype, self.progress)

    def _source(self) -> MapSource:
        if hasattr(self, "tuned_"):
            return MapSource(self.tuned_)
        return MapSource(encoder_of(self.model, self._compute()))

    def _tile(self) -> int:
        return int(encoder_of(self.model, self._compute()).transform.size)

    def _transform(self) -> Any:
        return working_transform(encoder_of(self.model, self._compute()).transform, self.view_size)


def _name(photo: Any, position: int) -> str:
    return describe(photo) if isinstance(photo, str) or hasattr(photo, "__fspath__") else f"#{position}"
