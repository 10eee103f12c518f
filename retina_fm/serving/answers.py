"""What the server says, as OpenAPI shows it."""

from __future__ import annotations

from pydantic import BaseModel, Field

Value = str | int | float | bool | None


class About(BaseModel):
    """What is served."""

    version: str = Field(description="Of retina_fm.")
    model: str = Field(description="Name of the encoder.")
    weights_sha256: str = Field(description="What determines its features.")
    transform_hash: str = Field(description="Of photo to view.")
    dimension: int = Field(description="Length of an embedding.")
    precision: str = Field(description="Number type that it computes in, and why.")
    licence: str = Field(description="Of the model.")
    intended_use: str = Field(description="And what it is not for.")
    pictures: int | None = Field(description="In the index; null without one.")
    spaces: list[str] = Field(description="What a search can compare.")
    targets: list[str] = Field(description="What can be segmented.")
    measures: bool = Field(description="Whether photos can be measured.")
    task: str | None = Field(description="Of the adapter; null without one.")


class Embedding(BaseModel):
    """A photo as numbers; they compare with those of the same weights and transform alone."""

    embedding: list[float] = Field(description="Of the model's length, float32.")
    model: str
    weights_sha256: str
    transform_hash: str
    width: int = Field(description="Of the photo, in pixels.")
    height: int = Field(description="Of the photo, in pixels.")


class Found(BaseModel):
    """A picture of the index."""

    rank: int = Field(description="From 1, nearest first.")
    score: float = Field(description="Cosine or inner product with the photo; higher is nearer.")
    path: str = Field(description="As the index holds it, relative to its store.")
    row: int | None = Field(
        description="For `/v1/pictures/{row}`; null where the index has lost the picture."
    )
    why: str = Field(description="`similar`, or that it is taken for the same eye's, where signatures spoke.")
    false_accept: float | None = Field(description="How often different eyes are as alike, where they spoke.")
    metadata: dict[str, Value] = Field(description="Of the picture, by column of the index.")


class Hits(BaseModel):
    """The pictures of the index that are nearest to a photo."""

    hits: list[Found]


class Measurements(BaseModel):
    """Numbers read off a photo. Research use; not a medical device."""

    values: dict[str, Value] = Field(description="By column; null where nothing can be said.")
    units: dict[str, str] = Field(description="Of the numbers.")
    reasons: str | None = Field(description="Why values are null.")


class Prediction(BaseModel):
    """What an adapter says of a photo. Research use; not a medical device."""

    task: str = Field(description="`classification` or `regression`.")
    label: Value | list[Value] = Field(
        description="The likeliest class, or the classes of a multi-label adapter."
    )
    probabilities: dict[str, float] | None = Field(description="Of each class.")
    values: list[float] | None = Field(description="Of a regression.")


class Report(BaseModel):
    """All that the server can say of a photo, for people to look at."""

    photo: str = Field(description="The view that the model saw, a JPEG inside an address.")
    overlay: str | None = Field(description="Vessels, disc and fovea over it, a PNG inside an address.")
    measurements: Measurements | None
    hits: list[Found] | None = Field(description="Nearest pictures of the index.")


class State(BaseModel):
    """Whether the server is alive, or ready."""

    status: str
