"""Everything that fixes a pretraining run, with names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from retina_fm.configuration import Configuration
from retina_fm.errors import ConfigError, nearest
from retina_fm.network import Architecture

_STRIDE = 16  # of the coarsest maps, which the decoder doubles back to the window's size
ADVERSARIAL = (
    "adversarial",
    "feature_matching",
    "patch_nce",
    "patch_identity",
)  # they wait for ``adversarial_from``
_AtLeast1 = Annotated[int, Field(ge=1)]


class LossWeights(Configuration):
    """Weight of each term; 0 switches it off and saves its cost.

    The paper's are a contrast of patches of 1 (in the public code half ``patch_nce``, half
    ``patch_identity``), ``attention`` 4 and ``adversarial`` 2, with pix2pixHD's ``feature_matching`` 10.
    ``reconstruction``, ``correlation``, ``lesions`` and ``vessels`` are ours.

    Attributes:
        reconstruction: L1 that counts fine structure more.
        correlation: 1 minus Pearson's correlation, a frame.
        lesions: dense maps of the lesion types.
        vessels: dense map of the vessels; needs ``architecture.vessels``.
        anatomy: dense maps of arteries, veins, disc and fovea; needs ``architecture.anatomy``.
        artery_or_vein: which of both a vessel is, on vessels alone; needs both in ``architecture.anatomy``.
        adversarial: least-squares GAN.
        feature_matching: L1 of the discriminators' inner maps, summed over layers.
        patch_nce: mask-enhanced contrast of patches, generated frames against the photo.
        patch_identity: the same against the true frames.
        attention: attention map against the knowledge mask.
        gradient_variance: against smeared frames (Fundus2FA).
        perceptual: VGG-19 features; needs a file with its weights.
        agreement: two views of an eye have like statistics, and eyes differ (ours).
        lesion_load: regression of how much of each lesion type was painted, from the statistics (ours).
    """

    section: ClassVar[str] = "weights"

    reconstruction: float = 0.0
    correlation: float = 0.0
    lesions: float = 0.0
    vessels: float = 0.0
    anatomy: float = 0.0
    artery_or_vein: float = 0.0
    adversarial: float = 0.0
    feature_matching: float = 0.0
    patch_nce: float = 0.0
    attention: float = 0.0
    gradient_variance: float = 0.0
    perceptual: float = 0.0
    agreement: float = 0.0
    lesion_load: float = 0.0
    patch_identity: float = 0.0


class Optimiser(Configuration):
    """How weights are changed.

    Attributes:
        kind: ``adamw`` or ``adam``.
        rate: highest learning rate of the generator.
        discriminator_rate: of the discriminators.
        betas: of both.
        weight_decay: of the generator's kernels (``adamw``).
        warm_up: steps over which the rate rises from 0.
        schedule: ``cosine`` to 2 % of the rate, or ``decay``: constant for the first half, then linear to 0.
        clip: largest norm of the gradient; 0 does not clip.
        average: decay of the moving average of the weights; 0 keeps none.
        encoder: whether the encoder is trained; False trains the decoder alone, over the encoder's maps as
            they are.
    """

    section: ClassVar[str] = "optimiser"

    kind: Literal["adamw", "adam"] = "adamw"
    rate: float = 1e-3
    discriminator_rate: float = 2e-4
    betas: Annotated[tuple[float, float], Field(strict=False)] = (0.9, 0.98)
    weight_decay: float = 1e-4
    warm_up: int = 50
    schedule: Literal["cosine", "decay"] = "cosine"
    clip: float = 5.0
    average: float = 0.998
    encoder: bool = True


class Curriculum(Configuration):
    """What changes during a run; every share is of the schedule's length.

    Attributes:
        adversarial_from: share before which discriminators, feature matching and patch contrast are off
            (warm start: reconstruction first); 0 is the paper.
        lesions_from: share before which eyes are rendered without lesions: vessels first.
        painting: probability that lesions are painted on an eye, from then on.
        poor: probability that a photo is degraded as clinics' poor photographs are, under unchanged targets.
        blurred_last: probability that a sample's true last triple is blurred beyond any vessel. The next
            triple looks much like the last, and a network that may copy it is slow to read the photo.
        own_frames: probability that a sample gets the generator's own last triple instead of the true one.
        own_frames_from: share before which it is 0.
        roll_out: deepest step whose last triple is generated; it costs as many passes. Two sequences learnt
            by heart lost their late phase with 3 and kept it with 9.
        crops: sides of the windows that take turns, in pixels; None is the whole view.
    """

    section: ClassVar[str] = "curriculum"

    adversarial_from: float = 0.0
    lesions_from: float = 0.0
    painting: float = 0.5
    poor: float = 0.0
    blurred_last: float = 0.6
    own_frames: float = 0.25
    own_frames_from: float = 0.3
    roll_out: int = 9
    crops: Annotated[tuple[int | None, ...], Field(strict=False)] = (256,)

    @field_validator("crops")
    @classmethod
    def _refuse_uneven(cls, crops: tuple[int | None, ...]) -> tuple[int | None, ...]:
        if not crops or any(crop is not None and (crop < _STRIDE or crop % _STRIDE) for crop in crops):
            raise ConfigError(
                f"curriculum.crops (--crop) is {list(crops)}; give sides that are multiples of {_STRIDE}, "
                "such as 256, or 0 to --crop for the whole view."
            )
        return crops


class Preset(Configuration):
    """A named way to pretrain.

    Attributes:
        name: of the preset.
        about: one line for people.
        architecture: of the generator.
        weights: of the loss terms.
        optimiser: rates and schedule.
        curriculum: what changes during the run.
        batch: samples a process and accumulation step.
        accumulation: batches that make one step.
        steps: length of the schedule.
        initialisation: ``kaiming`` or ``normal`` (N(0, 0.02) as in pix2pixHD).
        discriminator_width: channels of their first stage.
        knowledge: whether discriminators see the masked pair too.
        video_steps: which of the ten steps are trained; None is all, repeats weigh more.
        single_frame: the three outputs are one frame, the middle of the triple (comparison models).
        size: side of the view at which the encoder is exported.
    """

    name: str
    about: str = ""
    architecture: Architecture = Architecture()
    weights: LossWeights = LossWeights()
    optimiser: Optimiser = Optimiser()
    curriculum: Curriculum = Curriculum()
    batch: _AtLeast1 = 6
    accumulation: _AtLeast1 = 1
    steps: _AtLeast1 = 20_000
    initialisation: Literal["kaiming", "normal"] = "kaiming"
    discriminator_width: int = 64
    knowledge: bool = True
    video_steps: Annotated[tuple[int, ...], Field(strict=False)] | None = None
    single_frame: bool = False
    size: int = 512

    @property
    def adversarial(self) -> bool:
        """Whether the run has discriminators."""
        return self.weights.adversarial > 0 or self.weights.feature_matching > 0

    @model_validator(mode="after")
    def _refuse_untrainable(self) -> Preset:
        used = {name for name, weight in self.weights if weight > 0}
        if not used:
            raise ValueError(
                "All weights are 0 and nothing is learned. Set one: --set weights.reconstruction=5."
            )
        if (self.weights.vessels > 0) != self.architecture.vessels:
            raise ValueError(
                f"architecture.vessels is {self.architecture.vessels} and weights.vessels "
                f"{self.weights.vessels}: a vessel map that is not trained would be read. Set both."
            )
        if (self.weights.anatomy > 0) != bool(self.architecture.anatomy):
            raise ValueError(
                f"architecture.anatomy is {self.architecture.anatomy} and weights.anatomy "
                f"{self.weights.anatomy}: maps that are not trained would be read. Set both."
            )
        if self.weights.artery_or_vein > 0 and not {"artery", "vein"} <= {*self.architecture.anatomy}:
            raise ValueError(
                f"weights.artery_or_vein is {self.weights.artery_or_vein}, but architecture.anatomy is "
                f"{self.architecture.anatomy}: give it 'artery' and 'vein'."
            )
        if used <= {*ADVERSARIAL} and self.curriculum.adversarial_from > 0:
            raise ValueError(
                f"Until curriculum.adversarial_from={self.curriculum.adversarial_from} all weights are 0. "
                "Set it to 0, or give the warm start a term: --set weights.reconstruction=5."
            )
        return self


_PAPER = LossWeights(patch_nce=0.5, patch_identity=0.5, attention=4.0, adversarial=2.0, feature_matching=10.0)
_PAPER_OPTIMISER = Optimiser(
    kind="adam", rate=2e-4, betas=(0.5, 0.999), weight_decay=0.0, warm_up=0, schedule="decay", clip=0.0,
    average=0.0,
)  # fmt: skip
# Thin vessels come in minutes instead of hours where the decoder sees the encoder's finer maps, and the
# twelfth frame is as clean as the first where the last triple tells the phase alone.
_LIGHT = Architecture(skips=True, memory=10)
_OURS = LossWeights(reconstruction=5.0, correlation=1.0, lesions=1.0, attention=1.0)
# With a memory that is coarse anyway, own frames only have to teach against drift.
_TOLD = Curriculum(lesions_from=0.15, blurred_last=0.0, own_frames=0.15, own_frames_from=0.6, roll_out=6)
# The encoder of a photo is what step 0 sees, so that step is trained three times as often as each other.
_MORE_FIRST_STEPS = (0, 0, *range(10))
_COMPARISON = Architecture(
    in_channels=3, decoder_blocks=6, upsample="transposed", attention=False, lesions=()
)
_SINGLE: dict[str, Any] = {
    "architecture": _COMPARISON,
    "optimiser": _PAPER_OPTIMISER,
    "curriculum": Curriculum(blurred_last=0.0, own_frames=0.0),
    "batch": 1,
    "initialisation": "normal",
    "knowledge": False,
    "video_steps": (5,),
    "single_frame": True,
}

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="tiny",
            about="seconds on a CPU: for tests and rehearsals",
            architecture=Architecture(width=8, encoder_blocks=1, embedding=32, skips=True),
            weights=_OURS.model_copy(
                update={"adversarial": 0.5, "feature_matching": 0.25, "patch_nce": 0.2, "attention": 1.0}
            ),
            optimiser=Optimiser(rate=3e-3, warm_up=10, average=0.98),
            curriculum=Curriculum(adversarial_from=0.75, lesions_from=0.25, crops=(64,)),
            batch=4,
            steps=200,
            discriminator_width=8,
            size=128,
        ),
        Preset(
            name="fundus2video",
            about="the paper's width: reconstruction and lesion maps, then the paper's adversarial terms",
            architecture=_LIGHT,
            weights=_OURS.model_copy(
                update={"adversarial": 0.2, "feature_matching": 0.25, "patch_nce": 0.1, "attention": 1.0}
            ),
            curriculum=_TOLD.model_copy(update={"adversarial_from": 0.85}),
            video_steps=_MORE_FIRST_STEPS,
        ),
        Preset(
            name="fundus2video-half",
            about="half the width, no adversary: for laptops",
            architecture=_LIGHT.model_copy(update={"width": 32}),
            weights=_OURS,
            optimiser=Optimiser(rate=1.5e-3),
            curriculum=_TOLD,
            video_steps=_MORE_FIRST_STEPS,
            steps=6_000,
        ),
        Preset(
            name="fundus2video-paper",
            about="nine-block generator and the paper's three terms",
            architecture=Architecture(decoder_blocks=6, upsample="transposed", lesions=()),
            weights=_PAPER,
            optimiser=_PAPER_OPTIMISER,
            curriculum=Curriculum(blurred_last=0.0, own_frames_from=0.0),
            batch=1,
            initialisation="normal",
        ),
        Preset(
            name="fundus2fa",
            about="comparison: one venous frame, pix2pixHD with gradient variance",
            weights=LossWeights(
                adversarial=1.0, feature_matching=10.0, perceptual=10.0, gradient_variance=5.0
            ),
            **_SINGLE,
        ),
        Preset(
            name="pix2pixhd",
            about="comparison: one venous frame, plain pix2pixHD",
            weights=LossWeights(adversarial=1.0, feature_matching=10.0, perceptual=10.0),
            **_SINGLE,
        ),
    )
}
"""All presets by name; the comparison models train on the same data and for the same number of steps."""


def preset_named(name: str) -> Preset:
    """A preset by name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in PRESETS:
        raise ConfigError(f"Unknown preset {name!r}. {nearest(name, PRESETS)}")
    return PRESETS[name]


CHANGEABLE = ("optimiser.rate", "optimiser.discriminator_rate", "batch", "accumulation")
"""What may differ when a run is continued; batch and accumulation only where a step has as many samples."""


def setting(preset: Preset, path: str) -> Any:
    """The value of a field; dots reach into the preset's parts."""
    value: Any = preset
    for name in path.split("."):
        value = getattr(value, name)
    return value


def with_settings(preset: Preset, settings: Mapping[str, Any]) -> Preset:
    """The preset with some fields changed; dots reach into its parts (``weights.lesions``).

    Raises:
        ConfigError: there is no such field, it cannot have that value, or the whole cannot be trained.
    """
    values = preset.model_dump()
    for path, value in settings.items():
        *parts, name = path.split(".")
        owner: Any = values
        for part in parts:
            owner = owner.get(part) if isinstance(owner, dict) else None
        if not isinstance(owner, dict) or name not in owner:
            raise ConfigError(f"The preset has no setting {path!r}. {nearest(path, _paths(values))}")
        if isinstance(owner[name], dict):
            inner = ", ".join(f"{path}.{part}" for part in owner[name])
            raise ConfigError(f"{path} is {value!r}, but it has parts. Set one of them: {inner}.")
        owner[name] = value
    return Preset.model_validate(values)


def _paths(values: Mapping[str, Any], before: str = "") -> list[str]:
    paths = []
    for name, value in values.items():
        paths.append(before + name)
        if isinstance(value, dict):
            paths += _paths(value, f"{before}{name}.")
    return paths
