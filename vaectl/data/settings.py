"""The section of a configuration that says which images are trained on."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from vaectl.base.errors import DataError
from vaectl.base.section import Count, NonNegative, Section, conflict
from vaectl.data.reading import Reading
from vaectl.data.sources.base import DEFAULT, Source, forms, parse, suggestions


def _resolved(text: str) -> str:
    """Refuse an unknown source; return its full name, which depends on no current directory."""
    try:
        return str(parse(text).resolved())
    except DataError as error:
        raise conflict(error.message, error.hint) from None


def _describe(schema: dict[str, Any]) -> None:
    """Describe all sources that are registered, in the JSON Schema."""
    names = [
        re.escape(name) + (r":[^\x00\n]+" if source.placeholder else "")
        for name, source in Source.known.items()
    ]
    schema["examples"] = suggestions()
    short = [re.escape(name) for source in Source.known.values() for name in source.nicknames]
    path = r"[^:\x00\n]*[./~][^:\x00\n]*"
    schema["pattern"] = f"^({'|'.join([*names, *short, path])})$"
    schema["description"] = (
        f"Where the images come from: {', '.join(forms())}; or a file, a folder or a name that can "
        "mean only one of these."
    )


class Selection(Section):
    """The images, and how they become the x of the model."""

    source: Annotated[str, AfterValidator(_resolved)] = Field(DEFAULT, json_schema_extra=_describe)
    binarization: Literal["threshold", "stochastic", "static", "none"] = "threshold"
    """`threshold`: 1 where a pixel is at least `threshold`. `stochastic`: a Bernoulli draw with the
    pixel as its probability, anew in each training epoch, fixed for validation and test. `static`:
    such a draw, made once for all images. `none`: the pixels themselves, between 0 and 1."""
    threshold: float = Field(0.5, gt=0, le=1)
    """The intensity from which a pixel is 1, as a fraction of full intensity."""
    train_size: Count | None = None
    """The number of training images, from the beginning of the training split; null: all except the
    validation images."""
    validation_size: Count | None = None
    """The number of validation images, the last of the training split; null: a sixth (10,000 of
    MNIST's 60,000)."""
    test_size: Count | None = None
    """The number of test images, the first ones; null: all."""
    memory_gb: NonNegative | None = None
    """The memory that images may take, in gigabytes, including the copies that reading makes: four
    times their bytes; null: all memory. A larger data set stays on disk, if its source supports
    that, and is read when it is needed, with equal results. 0: always leave images on disk."""


class Data(Reading, Selection):  # fields of the last base come first
    """The images, how they become the x of the model, and how they are read."""

    @model_validator(mode="after")
    def _heeded(self) -> Self:
        """Refuse settings that the source does not use."""
        heeds = self.plug.heeds
        for key in Reading.model_fields:
            if key not in heeds and getattr(self, key) != Reading.model_fields[key].default:
                others = [source.form() for source in Source.known.values() if key in source.heeds]
                raise conflict(
                    f"{key} means nothing to {self.source}",
                    f"leave out data.{key}: it is for {', '.join(others)}",
                )
        if self.resize != "crop" and self.size is None:
            raise conflict(
                f"resize is {self.resize}, but there is no size to fit pictures to",
                "set data.size too, in pixels",
            )
        return self

    def idle(self) -> dict[str, str]:
        """Name the threshold, where another way of binarization has none."""
        how = self.binarization
        return {} if how == "threshold" else {"threshold": f"binarization {how} has none"}

    @property
    def most_bytes(self) -> int:
        """The most bytes of images that may be held in memory."""
        from vaectl.data.arrays import most_in_memory

        return most_in_memory(None if self.memory_gb is None else int(self.memory_gb * 10**9))

    @property
    def plug(self) -> Source:
        """The source, with the settings that say how it is read."""
        reading = Reading(**{key: getattr(self, key) for key in Reading.model_fields})
        return parse(self.source, reading)
