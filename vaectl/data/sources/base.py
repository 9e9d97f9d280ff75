"""The protocol of data sources, and the reading of their names in a configuration."""

from __future__ import annotations

import contextlib
import re
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

from vaectl.base import plugins
from vaectl.base.errors import DataError
from vaectl.base.nearest import nearest, question
from vaectl.base.plugs import Plug
from vaectl.base.terminal import Tell

if TYPE_CHECKING:
    from vaectl.data.arrays import Published

DEFAULT = "digits-5k"
"""The source of a configuration that names none."""
_MOST_SHOWN = 200
"""How many characters of a wrong source a message repeats."""


class Entry(NamedTuple):
    """A line of `vaectl data list`."""

    source: str
    """The value of `data.source`."""
    state: str
    """The state of the data on this machine: ready, or what it takes to get them."""
    what: str


class Source(Plug, kind="source"):
    """An origin of images.

    A configuration writes it `SCHEME:REST`, or as the scheme alone where it needs nothing more. The
    scheme is the plug's name; what the rest means is up to the plug.
    """

    placeholder: ClassVar[str] = ""
    """How help writes the rest, such as DIR; empty for a source that takes none."""
    state: ClassVar[str] = "local"
    """The state of the images in `vaectl data list`: at hand, or what they need first."""
    what: ClassVar[str] = ""
    """A few words about the images, for `vaectl data list`."""
    examples: ClassVar[tuple[str, ...]] = ()
    """Values of the rest that are worth a suggestion."""
    needs_network: ClassVar[bool] = False
    """True if it may have to download; if it cannot, the others are suggested."""

    rest: str = ""

    @abstractmethod
    def load(self, *, progress: bool = False) -> Published:
        """Read the images and, where they are known, their classes.

        Args:
            progress: whether a download may show a bar.

        Raises:
            DataError: they are missing, broken, or cannot be fetched.
        """

    def load_within(self, most: int, tell: Tell, *, progress: bool = False) -> Published:
        """Read the images, or leave them on disk if they would take too much memory.

        A source that can do so overrides this: its images are a `vaectl.data.stored.Stored`.

        Args:
            most: the most bytes of images that may be held in memory.
            tell: called with a description of what takes long.
            progress: whether a download may show a bar.

        Raises:
            DataError: they are missing, broken, or cannot be fetched.
        """
        del most, tell
        return self.load(progress=progress)

    def resolved(self) -> Self:
        """Return the same source, named in a way that means the same in every directory."""
        return self

    @property
    def title(self) -> str:
        """The name of these images for people; runs are named after it."""
        return str(self)

    @property
    def short_name(self) -> str:
        """The title in letters, digits and hyphens, for names of files."""
        return re.sub(r"[^A-Za-z0-9]+", "-", self.title).strip("-")[:40].strip("-") or "data"

    @classmethod
    def form(cls) -> str:
        """Write how a configuration names it."""
        return f"{cls.name}:{cls.placeholder}" if cls.placeholder else cls.name

    @classmethod
    def entries(cls) -> list[Entry]:
        """Describe it for `vaectl data list`."""
        return [Entry(cls.form(), cls.state, cls.what)]

    def __str__(self) -> str:
        return f"{self.name}:{self.rest}" if self.rest else self.name


class LocalSource(Source):
    """A source that is a file or a folder of this machine."""

    @property
    def path(self) -> Path:
        """The file or the folder."""
        return Path(self.rest)

    @property
    def title(self) -> str:
        """The name of the file or the folder."""
        return self.path.name

    def resolved(self) -> Self:
        """Return the same source with an absolute path, so that it depends on no directory."""
        path = self.path
        with contextlib.suppress(RuntimeError):  # the ~ of an unknown user stays as it is
            path = path.expanduser()
        return self.model_copy(update={"rest": str(path.absolute())})


def parse(text: str) -> Source:
    """Find the source that a configuration names; one of an installed package is loaded.

    Raises:
        DataError: there is no such source, or what follows its name is missing or too much.
        ConfigError: an installed package of plugs does not load.
    """
    name, colon, rest = text.partition(":")
    shown = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
    if name not in Source.known:
        plugins.load_installed()
    source: type[Source] | None = Source.known.get(name)
    if source is None:
        raise DataError(f"{shown}: no such data source; {_nearest(name, text)}", hint=_LIST)
    if bool(rest) != bool(source.placeholder) or (colon and not rest):
        what = f"{source.placeholder} is missing" if source.placeholder else "too much"
        raise DataError(f"{shown}: {what}; it is written {source.form()}", hint=_LIST)
    if "\0" in rest or "\n" in rest:
        raise DataError(f"{shown!r}: no name has such a character in it", hint=_LIST)
    # checked above; a path may hold bytes that pydantic's strings cannot
    return source.model_construct(rest=rest)


def forms() -> list[str]:
    """Write how a configuration names each source that is registered."""
    return [source.form() for source in Source.known.values()]


def suggestions() -> list[str]:
    """Return what a configuration may begin with: whole sources, and schemes of the others."""
    return [
        f"{scheme}:{rest}" if rest or source.placeholder else scheme
        for scheme, source in Source.known.items()
        for rest in source.examples or ("",)
    ]


def _nearest(name: str, text: str) -> str:
    """Name all sources, and the one that was probably meant."""
    near = [Source.known[scheme].form() for scheme in nearest(name, Source.known)]
    near = near or nearest(text, suggestions())
    return f"there are {', '.join(forms())}{question(near[:1])}"


_LIST = "vaectl data list describes the sources"
