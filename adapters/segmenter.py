"""A segmenter of photos: encoder, U-Net decoder, masks in the photos' own pixels."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from retina_fm.adapters.estimator import Estimator, part_of, rows_of
from retina_fm.adapters.examples.draws import validation_split
from retina_fm.adapters.examples.views import View, target_of, view_of, working_transform
from retina_fm.adapters.extraction import device_of, encoder_of, identity_of, photo_list, photo_name
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
from retina_fm.models.folder import check_tensors
from retina_fm.network.defaults import undisturbed
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

    from typing_extensions import Self


def default_steps(photos: int) -> int:
    """1000 for one photo, 2000 for sixteen: one draw of RITE gained by 1000 for one and 1200 for eight."""
    return round(1000 * math.pow(photos, 0.25))


class FundusSegmenter(Estimator):
    """Photos to masks, binary or multi-class, in scikit-learn's style; few examples are enough.

    Args:
        model: encoder, by a name that ``retina_fm.load`` takes, or a loaded one.
        shots: photos that ``fit`` draws; None takes all; 0 needs no ``fit`` and reads ``target`` off the
            model itself.
        target: with ``shots=0``: ``vessels``, ``arteries``, ``veins``, ``disc`` or a lesion type.
        allow_unreliable: with ``shots=0``: read maps too whose stated reliability does not suffice.
        tune: ``head`` keeps the encoder frozen and its maps computed once, ``last`` or ``all`` train it too.
        decoder: ``light`` (seconds on a laptop) or ``full`` (U-Net's usual width).
        classes: the mask values that are classes, background first; None takes those found.
        mask_threshold: mask values above it are foreground; None takes values as classes.
        view_size: edge of the working view; None is the encoder's own. Larger views are cut into tiles.
        steps: of training, at most; None takes 1000 for one photo and more for more.
        max_seconds: of training, the maps of the photos computed first included; the result then depends on
            the machine's speed.
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

    task = "segmentation"
    classes_: np.ndarray
    threshold_: float
    history_: list[dict[str, Any]]
    module_: Any

    def __init__(
        self,
        model: Any = "fundus2video",
        *,
        shots: int | None = None,
        target: str = "vessels",
        allow_unreliable: bool = False,
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
        self.allow_unreliable = allow_unreliable
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

    @undisturbed
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
                patient in both parts; ``max_seconds`` that were over before the first step.
            PictureError: a photo or mask that cannot be read.
        """
        if self.shots == 0:
            return self  # nothing to learn: the model itself is read
        return super().fit(photos, masks, groups, val)

    def predict_proba(self, photos: Any) -> list[np.ndarray]:
        """Probabilities in the photos' pixels: ``float32 (H, W)`` of the foreground, or ``(H, W, C)``."""
        found = photo_list(photos)
        if self.shots == 0:
            from retina_fm.adapters.zero_shot import read_target

            return read_target(
                found, self.target, self.model, self._compute(), allow_unreliable=self.allow_unreliable
            )
        check_is_fitted(self)
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
            from retina_fm.adapters.zero_shot import VESSELS, threshold_of

            stated: Any = {}
            if self.target != VESSELS:
                stated = getattr(encoder_of(self.model, self._compute()), "reliability", {})
            return (probability >= threshold_of(self.target, probability, stated)).astype(np.uint8)
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

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:  # noqa: D102
        module = {f"module.{key}": value.cpu().numpy() for key, value in self.module_.state_dict().items()}
        state = {"classes": self.classes_.tolist(), "threshold": self.threshold_, "history": self.history_}
        return module | super().state()[0], state

    def restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:  # noqa: D102
        super().restore(arrays, state)
        self.classes_ = np.array(state["classes"])
        self.threshold_, self.history_ = state["threshold"], state["history"]
        tensors = {key: torch.from_numpy(value) for key, value in part_of(arrays, "module.").items()}
        with torch.device("meta"):
            expected = self._new_module(self._source()).state_dict()
        for key, value in tensors.items():  # a single number is kept as a list of one
            if key in expected and value.numel() == expected[key].numel() == 1:
                tensors[key] = value.reshape(expected[key].shape)
        check_tensors(tensors, expected, "The adapter's decoder")  # before memory is taken for it
        module = self._new_module(self._source())
        module.load_state_dict(tensors)
        module = module.to(self._compute().torch_device, memory_format=torch.channels_last)
        self.module_ = module.eval()

    def models(self) -> list[Any]:  # noqa: D102
        return [self.model]

    def metrics(self) -> dict[str, float]:  # noqa: D102
        looks = [float(record["dice"]) for record in self.history_ if "dice" in record]
        return {"validation_dice": max(looks)} if looks else {}

    def __sklearn_is_fitted__(self) -> bool:
        return self.shots == 0 or hasattr(self, "module_")

    def _checked(self, y: Any, photos: list[Any], known: Any = None) -> list[Any]:  # noqa: ARG002
        """One mask a photo; what they hold is checked as they are read, for they are large."""
        if y is None:
            raise ConfigError("Masks are missing: fit(photos, masks) needs one a photo; or use shots=0.")
        return mask_list(y, photos)

    def _learn(
        self,
        photos: list[Any],
        labels: list[Any],
        patients: np.ndarray | None,
        held: tuple[list[Any], list[Any]] | None,
    ) -> None:
        views, targets = self._examples(photos, labels)
        others: tuple[list[View], list[np.ndarray]] = [], []
        if held is not None:
            others = self._examples(*held, known=True)
        elif len(views) >= 8:
            groups = self.drawn_.astype(str) if patients is None else patients
            train, aside = validation_split(None, groups, self.validation, self.seed)
            others = rows_of(views, aside), rows_of(targets, aside)
            views, targets = rows_of(views, train), rows_of(targets, train)
        self._train(views, targets, *others)

    def _train(self, views: Any, targets: Any, views_held: Any, targets_held: Any) -> None:
        compute = self._compute()
        if hasattr(self, "tuned_"):
            del self.tuned_
        tuned: list[torch.nn.Parameter] = []
        if self.tune != "head":
            self.tuned_, tuned = tunable_copy(encoder_of(self.model, compute), self.tune)
        source, transform = self._source(), self._transform()
        self.encoders_ = [identity_of(source.encoder)]
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
            module = self._new_module(source)
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
        if len(self.classes_) == 2:
            support = (views_held, targets_held) if views_held else (views[:8], targets[:8])
            self._choose_threshold(source, *support)

    def _new_module(self, source: MapSource) -> Any:
        count = len(self.classes_)
        return MapDecoder(source, 1 if count == 2 else count, self.decoder)

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
        names = [photo_name(photo, position) for position, photo in enumerate(photos)]

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
                stacklevel=5,
            )
        return views, targets

    def _source(self) -> MapSource:
        if hasattr(self, "tuned_"):
            return MapSource(self.tuned_)
        return MapSource(encoder_of(self.model, self._compute()))

    def _tile(self) -> int:
        return int(encoder_of(self.model, self._compute()).transform.size)

    def _transform(self) -> Any:
        return working_transform(encoder_of(self.model, self._compute()).transform, self.view_size)
