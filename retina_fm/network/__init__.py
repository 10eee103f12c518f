"""Generator, encoder and pooling: plain modules without input or output."""

from retina_fm.network.architecture import STRIDES, Architecture
from retina_fm.network.encoder import Encoder
from retina_fm.network.features import FeatureInfo, Features
from retina_fm.network.generator import Generated, Generator, encoder_of, encoder_state
from retina_fm.network.initialisation import initialise

__all__ = [
    "STRIDES",
    "Architecture",
    "Encoder",
    "FeatureInfo",
    "Features",
    "Generated",
    "Generator",
    "encoder_of",
    "encoder_state",
    "initialise",
]
