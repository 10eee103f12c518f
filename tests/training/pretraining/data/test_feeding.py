"""Streams take turns in proportion, are drawn ahead in order, and follow the curriculum."""

from __future__ import annotations

from collections import Counter

import pytest

from retina_fm.errors import ConfigError, NoPicturesError
from retina_fm.training.pretraining.data.feeding import Feed, Mixture, open_stream, settings_at
from retina_fm.training.pretraining.data.streams import StreamSettings
from retina_fm.training.pretraining.presets import Curriculum, preset_named


class Named:
    """Gives (name, number) instead of samples."""

    batch = 2
    settings = StreamSettings()

    def __init__(self, name):
        self.name = name

    def batch_at(self, index):
        return self.name, index

    def state_dict(self):
        return {"name": self.name}

    def load_state_dict(self, state):
        assert state["name"] == self.name


def test_streams_take_turns_by_their_shares_and_none_skips_a_batch():
    mixture = Mixture([Named("a"), Named("b")], [3, 1])
    drawn = [mixture.batch_at(index) for index in range(12)]
    assert Counter(name for name, _ in drawn) == {"a": 9, "b": 3}
    for name in "ab":
        numbers = [number for n, number in drawn if n == name]
        assert numbers == list(range(len(numbers)))
    assert {name for name, _ in drawn[:4]} == {"a", "b"}


def test_a_mixture_refuses_the_state_of_another():
    state = Mixture([Named("a"), Named("b")], [3, 1]).state_dict()
    with pytest.raises(ConfigError, match="other data"):
        Mixture([Named("a"), Named("b")], [2, 1]).load_state_dict(state)


def test_batches_come_in_order_and_with_the_settings_of_their_step():
    stream = Named("a")
    seen = []

    def settings(step):
        seen.append(step)
        return StreamSettings(crop=10 + step)

    feed = Feed(stream, lambda step, part: 10 * step + part, settings, accumulation=2, first=3, ahead=2)
    taken = [feed.take()[1] for _ in range(5)]
    feed.close()
    assert taken == [30, 31, 40, 41, 50]
    assert seen[:4] == [3, 3, 4, 4]
    assert stream.settings.crop >= 15


def test_the_curriculum_starts_with_vessels_and_then_paints():
    curriculum = Curriculum(lesions_from=0.25, painting=0.5, crops=(64, 96))
    assert settings_at(curriculum, 0, 0.1) == StreamSettings(crop=64, lesions=False, painting=0)
    assert settings_at(curriculum, 1, 0.3) == StreamSettings(crop=96, painting=0.5)


def test_settings_reach_every_stream_of_a_mixture():
    mixture = Mixture([Named("a"), Named("b")], [1, 1])
    mixture.settings = StreamSettings(painting=0)
    assert [stream.settings.painting for stream in mixture.streams] == [0.0, 0.0]


def test_nothing_to_train_on_says_what_to_give(tmp_path):
    with pytest.raises(ConfigError, match="--data"):
        open_stream([], preset_named("tiny"))
    with pytest.raises(NoPicturesError, match="no prepared eyes"):
        open_stream([tmp_path], preset_named("tiny"))


def test_an_error_in_the_thread_reaches_the_loop():
    class Broken(Named):
        def batch_at(self, index):
            raise ConfigError(f"batch {index} cannot be drawn")

    feed = Feed(Broken("a"), lambda step, part: step + part, lambda _: StreamSettings(), ahead=2)
    with pytest.raises(ConfigError, match="batch 0 cannot be drawn"):
        feed.take()
    feed.close()
