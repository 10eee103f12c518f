"""The few numbers that fix the shape of the network."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from retina_fm.configuration import Configuration
from retina_fm.vocabulary import FRAMES_A_PASS, LESION_TYPES

ANATOMY = ("artery", "vein", "disc", "fovea")
"""Parts of the eye that a decoder may map beside lesions and vessels, in the order of their channels."""

DOWNSAMPLINGS = 4
STRIDES = (1, 2, 4, 8, 16)


# upper bounds are far above any use: a file must not ask for more memory or time than there is
_AtLeast0 = Annotated[int, Field(ge=0, le=4096)]
_AtLeast1 = Annotated[int, Field(ge=1, le=4096)]
_Blocks0 = Annotated[int, Field(ge=0, le=128)]
_Blocks1 = Annotated[int, Field(ge=1, le=128)]


class Architecture(Configuration):
    """Shape of generator and encoder; every field is part of a weights folder's ``config.json``.

    Attributes:
        width: channels after the stem; each downsampling doubles them (64 gives 1024 at stride 16).
        in_channels: 6 for photo and last triple of frames, 3 for a photo alone.
        encoder_blocks: residual blocks that belong to the encoder.
        decoder_blocks: further residual blocks before the upsampling; none of the encoder's business.
        upsample: ``"resize"`` (nearest resize and 3x3 convolution) or ``"transposed"`` (the public
            pix2pixHD layout, which draws a checkerboard).
        attention: whether a knowledge-boosted attention map weighs the last encoder map.
        skips: whether the decoder also sees the encoder's maps at strides 1 to 8 (ours: thin vessels do not
            survive the way through stride 16). The encoder is the same either way.
        memory: side in pixels of the squares over which the generator sees the last triple of frames averaged
            (ours: it tells the phase and leaves the rest to the photo); 0 shows it as it is.
        lesions: lesion types predicted densely; empty for converted public checkpoints.
        decoder_width: channels of the decoder at stride 1, doubled at each coarser one; 0 makes it as wide as
            the encoder, where it is half of all arithmetic.
        coarse_maps: whether the decoder also predicts lesion and vessel maps at stride 2: all that an
            embedding needs, at a fraction of the cost of full resolution.
        vessels: whether the generator's decoder also predicts where vessels lie (ours: frames show them only
            where there is dye, and a map is read in one pass).
        anatomy: parts of ``ANATOMY`` that the decoder also maps, in that order.
        lesion_decoder: whether the encoder also runs the generator's decoder, whose maps of lesions and of
            vessels have full resolution, and pools what the former say; without ``coarse_maps`` it doubles
            the encoder's arithmetic.
        colour: whether colour and texture of the view are pooled beside the maps.
        pools_anatomy: whether an encoder with ``lesion_decoder`` pools what the maps of vessels and anatomy
            say, too.
        clip: standard deviations of the photographs that the pooling was fitted on beyond which a statistic
            counts as that far; 0 lets it be.
        embedding: length D of the pooled embedding.
        spacing: distance in view pixels between the places where maps are sampled for pooling.
    """

    section: ClassVar[str] = "architecture"

    width: _AtLeast1 = 64
    in_channels: Literal[3, 6] = 6
    encoder_blocks: _Blocks1 = 3
    decoder_blocks: _Blocks0 = 0
    upsample: Literal["resize", "transposed"] = "resize"
    attention: bool = True
    skips: bool = False
    memory: _AtLeast0 = 0
    lesions: Annotated[tuple[str, ...], Field(strict=False)] = LESION_TYPES
    decoder_width: _AtLeast0 = 0
    coarse_maps: bool = False
    vessels: bool = False
    anatomy: Annotated[tuple[str, ...], Field(strict=False)] = ()
    lesion_decoder: bool = False
    colour: bool = False
    pools_anatomy: bool = False
    clip: Annotated[float, Field(ge=0)] = 0.0
    embedding: Annotated[int, Field(ge=1, le=65536)] = 512
    spacing: _AtLeast1 = 8

    @model_validator(mode="after")
    def _refuse_maps_of_nothing(self) -> Architecture:
        if self.lesion_decoder and not self.lesions:
            raise ValueError("architecture.lesion_decoder is on, but there are no lesion types to decode.")
        if self.coarse_maps and not self.dense_maps:
            raise ValueError(
                "architecture.coarse_maps is on, but there are neither lesion types nor vessels."
            )
        if self.anatomy != tuple(part for part in ANATOMY if part in self.anatomy):
            raise ValueError(
                f"architecture.anatomy is {self.anatomy!r}; give parts of {ANATOMY}, in that order."
            )
        if self.pools_anatomy and not (self.vessels or self.anatomy):
            raise ValueError("architecture.pools_anatomy is on, but neither vessels nor anatomy are mapped.")
        return self

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the five encoder maps, at strides 1, 2, 4, 8 and 16."""
        return tuple(self.width * 2**level for level in range(DOWNSAMPLINGS + 1))

    @property
    def decoder_channels(self) -> tuple[int, ...]:
        """Channels of the decoder's maps, at strides 1, 2, 4 and 8."""
        width = self.decoder_width or self.width
        return tuple(width * 2**level for level in range(DOWNSAMPLINGS))

    @property
    def dense_maps(self) -> int:
        """Maps that the decoder predicts beside the frames: lesion types, vessels, parts of the anatomy."""
        return len(self.lesions) + int(self.vessels) + len(self.anatomy)

    @property
    def outputs(self) -> int:
        """Channels of the generator's last convolution: frames and all other maps."""
        return FRAMES_A_PASS + self.dense_maps
