"""Recipes: data, preset, changes and schedule of a released model, in ``training/recipes/NAME.toml``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from retina_fm.configuration import Configuration, parse_toml
from retina_fm.errors import ConfigError, nearest
from retina_fm.training.pretraining.data.sources import open_source
from retina_fm.training.pretraining.presets import Preset, preset_named, with_settings

FOLDER = Path(__file__).parent.parent / "recipes"
_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_AtLeast1 = Annotated[int, Field(ge=1)]


class RecipeData(Configuration):
    """A set that is trained on.

    Attributes:
        name: of its folder of prepared eyes, or of the folder of its ``pairs.csv``.
        photographs: how many different ones it has.
        sha256: of the photographs' sorted SHA-256, one a line.
        times: how often it is named, to be seen more often.
    """

    section: ClassVar[str] = "data"

    name: str
    photographs: _AtLeast1
    sha256: _Digest
    times: _AtLeast1 = 1


class RecipeStart(Configuration):
    """Weights to begin with.

    Attributes:
        model: their name, for people.
        weights_sha256: hash of what determines their features, as ``config.json`` gives it.
    """

    section: ClassVar[str] = "start_from"

    model: str
    weights_sha256: _Digest


class Recipe(Configuration):
    """Everything that fixes a released model but the machine.

    Attributes:
        name: of the recipe.
        about: one line for people.
        preset: name of the preset that it begins with.
        settings: what differs, as ``--set`` takes it; its ``steps`` are the schedule.
        data: sets, in the order of ``--data``.
        start_from: weights to begin with, or None.
        seed: of weights and of every choice made on the way.
    """

    name: str
    about: str
    preset: str
    settings: Mapping[str, Any] = Field(default_factory=dict)
    data: Annotated[tuple[RecipeData, ...], Field(strict=False, min_length=1)]
    start_from: RecipeStart | None = None
    seed: int = 0

    def resolved(self) -> Preset:
        """The preset with the recipe's changes.

        Raises:
            ConfigError: there is no such preset, or no such setting.
        """
        return with_settings(preset_named(self.preset), self.settings)

    def places(self, home: str | Path) -> list[Path]:
        """Where the sets lie below ``home``, in the order of ``--data``, each checked first.

        Raises:
            NoPicturesError: a set is not there.
            ConfigError: a set has other photographs than the model was trained on.
        """
        found = []
        for one in self.data:
            place = Path(home) / one.name
            count, digest = photographs_hash(place)
            if (count, digest) != (one.photographs, one.sha256):
                raise ConfigError(
                    f"{place} holds {count} photographs (SHA-256 {digest[:12]}...), recipe {self.name!r} "
                    f"asks for {one.photographs} ({one.sha256[:12]}...). Prepare exactly those, or train "
                    "without the recipe."
                )
            found += [place] * one.times
        return found


def photographs_hash(place: str | Path) -> tuple[int, str]:
    """How many different photographs a set has, and the hash that a recipe knows it by.

    Drawn retinas have no photograph; their names stand in for it.

    Raises:
        NoPicturesError: there are neither prepared eyes nor a ``pairs.csv``.
    """
    identities = (photo.identity() for photo in open_source(place).photographs())
    hashes = sorted({digest or name for name, digest in identities})
    return len(hashes), hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def list_recipes() -> list[Recipe]:
    """All recipes that come with the package."""
    return [read_recipe(path) for path in sorted(FOLDER.glob("*.toml"))]


def find_recipe(name: str | Path) -> Recipe:
    """A recipe by name, or by the path of a file of one's own.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    path = Path(name)
    if path.suffix == ".toml":
        return read_recipe(path)
    known = [one.stem for one in FOLDER.glob("*.toml")]
    if str(name) not in known:
        raise ConfigError(f"Unknown recipe {str(name)!r}. {nearest(str(name), known)}")
    return read_recipe(FOLDER / f"{name}.toml")


def read_recipe(path: Path) -> Recipe:
    """A recipe of a file; it has the file's name.

    Raises:
        ConfigError: it cannot be read, a field is unknown, or its settings cannot be trained.
    """
    try:
        said = parse_toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as a recipe ({error}). Check the path.") from None
    try:
        recipe = Recipe.model_validate({"name": path.stem, **said})
        recipe.resolved()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return recipe
