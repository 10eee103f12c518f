"""Endless streams of samples: one iterator, one state, one way to change what is drawn."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field

from retina_fm.configuration import Configuration
from retina_fm.errors import ConfigError

if TYPE_CHECKING:
    from retina_fm.training.pretraining.data.samples import Samples

_Share = Annotated[float, Field(ge=0, le=1)]


class StreamSettings(Configuration):
    """What may change between a stream's batches; a stream leaves aside what its data have not.

    Attributes:
        crop: side of the window in pixels; the whole view when None.
        lesions: False renders vessels alone.
        painting: probability that lesions are painted.
        poor: probability that a photo is degraded as clinics' poor photographs are.
    """

    section: ClassVar[str] = "stream"

    crop: Annotated[int, Field(ge=1)] | None = 256
    lesions: bool = True
    painting: _Share = 0.5
    poor: _Share = 0.0


class Stream(ABC):
    """An endless stream of batches, each of which depends on the seed and its number alone.

    So a stream that is loaded at n continues exactly, on any device. Each pass over the items has an order
    of its own.

    Attributes:
        batch: samples a batch.
        seed: of the stream.
        steps: which steps to draw from; all ten when None.
        device: where the samples go.
        settings: of the batches that follow; may be replaced between them.
        index: number of the next batch of the iterator.
        counted: what its items are called in its state.
    """

    __slots__ = ("batch", "device", "index", "seed", "settings", "steps")  # a misspelt setting is refused
    counted: ClassVar[str]

    def __init__(
        self,
        *,
        batch: int,
        seed: int,
        steps: Sequence[int] | None,
        device: torch.device | str,
        settings: StreamSettings,
    ) -> None:
        if batch < 1:
            raise ConfigError(f"batch={batch} is not a number of samples. Give 1 or more.")
        self.batch, self.seed, self.steps, self.device = batch, seed, steps, torch.device(device)
        self.settings = settings
        self.index = 0

    @property
    @abstractmethod
    def count(self) -> int:
        """How many items a pass has."""

    @abstractmethod
    def names(self) -> Iterable[str]:
        """Names of the files that are drawn from, in their order."""

    @abstractmethod
    def batch_at(self, index: int) -> Samples:
        """Batch number ``index``, whatever came before."""

    def order(self, index: int) -> tuple[list[int], torch.Generator]:
        """Items of batch ``index``, and the only source of its randomness."""
        numbers = pass_order(self.seed, index, self.batch, self.count)
        return numbers, torch.Generator().manual_seed(seed_of(self.seed, 2, index))

    def __iter__(self) -> Iterator[Samples]:
        return self

    def __next__(self) -> Samples:
        samples = self.batch_at(self.index)
        self.index += 1
        return samples

    def state_dict(self) -> dict[str, Any]:
        """What is needed to continue exactly, as JSON values."""
        return {
            "seed": self.seed,
            "index": self.index,
            "batch": self.batch,
            self.counted: self.count,
            "data": names_hash(self.names()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where ``state_dict`` was taken.

        Raises:
            ConfigError: the stream has other items or another batch size.
        """
        refuse_another_stream(state, self.state_dict())
        self.seed, self.index = int(state["seed"]), int(state["index"])


def seed_of(*parts: int) -> int:
    """A seed that depends on all parts, the same on every machine."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big")


def names_hash(names: Iterable[str]) -> str:
    """Short SHA-256 of what a stream draws from, in its order: file names, not places, so data may move."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def refuse_another_stream(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Compare a stream's saved state with its own; seed and position are taken over, the rest must agree.

    Raises:
        ConfigError: it was saved by another kind of stream, over other data or with another batch size.
    """
    for name in (key for key in now if key not in ("seed", "index")):
        if name not in saved:
            if name == "data":
                continue  # checkpoints of earlier releases do not name their data
            raise ConfigError(
                "The stream was saved over other kinds of data, or another mix of them. Continue with the "
                "same --data, in the same order."
            )
        if saved[name] != now[name]:
            raise ConfigError(
                f"The stream was saved with {name}={saved[name]} and now has {now[name]}. "
                "Continue with the same --data (the same files) and batch size."
            )


def pass_order(seed: int, index: int, batch: int, count: int) -> list[int]:
    """Items of batch ``index``: consecutive places in an endless sequence of shuffled passes."""
    chosen: list[int] = []
    orders: dict[int, list[int]] = {}
    for place in range(index * batch, (index + 1) * batch):
        epoch, at = divmod(place, count)
        if epoch not in orders:
            generator = torch.Generator().manual_seed(seed_of(seed, 1, epoch))
            orders[epoch] = torch.randperm(count, generator=generator).tolist()
        chosen.append(orders[epoch][at])
    return chosen
