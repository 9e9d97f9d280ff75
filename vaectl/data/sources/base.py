"""The protocol of data sources, and the reading of their names in a configuration."""

from __future__ import annotations

import contextlib
import os
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

from vaectl.base import plugins
from vaectl.base.errors import DataError, VaectlError
from vaectl.base.nearest import nearest, nearest_path, question
from vaectl.base.plugs import Plug
from vaectl.base.terminal import Tell
from vaectl.data.reading import PLAIN, Reading

if TYPE_CHECKING:
    from vaectl.data.arrays import Published

DEFAULT = "digits-5k"
"""The source of a configuration that names none."""
_MOST_SHOWN = 200
"""The most characters of a wrong source that a message repeats."""
_DEPTH, _MOST_FOLDERS, _MOST_NAMES = 2, 20, 2000
"""The limits of a search for the kind of a folder: levels of subfolders, folders per level, and
names of files."""


class Entry(NamedTuple):
    """A line of `vaectl data list`."""

    source: str
    """The value of `data.source`."""
    state: str
    """The state of the data on this machine: ready, or how to get them."""
    what: str


class Source(Plug, kind="source"):
    """An origin of images.

    A configuration writes it `SCHEME:REST`, or as the scheme alone where it needs nothing more. The
    scheme is the plug's name; what the rest means is up to the plug.
    """

    placeholder: ClassVar[str] = ""
    """The name of the rest in help texts, such as DIR; empty for a source that takes none."""
    state: ClassVar[str] = "local"
    """The state of the images in `vaectl data list`: where they are, or what they need first."""
    what: ClassVar[str] = ""
    """A few words about the images, for `vaectl data list`."""
    examples: ClassVar[tuple[str, ...]] = ()
    """Values of the rest that are worth a suggestion."""
    nicknames: ClassVar[Mapping[str, str]] = {}
    """Names that mean the source without its scheme, in small letters with '_'; each with its
    rest."""
    needs_network: ClassVar[bool] = False
    """True if it may need a download; if a download fails, other sources are suggested."""
    heeds: ClassVar[frozenset[str]] = frozenset({"range"})
    """The settings of its `reading` that it understands; `range` is applied to what it returns."""

    first_reading: ClassVar[Reading] = PLAIN
    """The settings of reading that give what older versions read, which had no settings."""

    rest: str = ""
    reading: Reading = PLAIN
    """The settings of a configuration for the reading of its images."""

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
        """Return the same source with a name that does not depend on the current directory."""
        return self

    @property
    def earlier(self) -> Reading | None:
        """The settings that give what older versions read; None if these are the present settings.

        Runs of older versions need it.
        """
        return self.first_reading if self.reading == PLAIN != self.first_reading else None

    @classmethod
    def meant(cls, text: str) -> str | None:
        """Return the rest if a text without a scheme can mean this source, else None."""
        return cls.nicknames.get(_nickname(text))

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

    suffixes: ClassVar[tuple[str, ...]] = ()
    """The endings of its files' names, in small letters, where no other source has such files."""

    @classmethod
    def holds(cls, names: Sequence[str]) -> bool:
        """Tell whether a folder with files of these names, which may lie in subfolders, is one."""
        del names
        return False

    @classmethod
    def meant(cls, text: str) -> str | None:
        """Recognize a file by the end of its name, and a folder by the names of its files."""
        path = _expanded(Path(text))
        if text and os.path.isdir(path):  # noqa: PTH112  # a Path raises if the name is too long
            return text if cls.holds(_names_in(path)) else None
        # with a colon it may be a mistyped scheme
        known = text.lower().endswith(cls.suffixes) if cls.suffixes else False
        there = ":" not in text or os.path.exists(path)  # noqa: PTH110
        return text if known and there else None

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
        return self.model_copy(update={"rest": str(_expanded(self.path).absolute())})


def _nickname(text: str) -> str:
    """Write a text as nicknames are written."""
    return text.lower().replace("-", "_")


def _expanded(path: Path) -> Path:
    with contextlib.suppress(RuntimeError):  # the ~ of an unknown user stays as it is
        return path.expanduser()
    return path


def _names_in(folder: Path) -> list[str]:
    """List the names of files in a folder and its subfolders, within limits."""
    found: list[str] = []
    for place, below, names in os.walk(folder):  # skips what it cannot read
        here = Path(place).relative_to(folder)
        below[:] = sorted(below)[:_MOST_FOLDERS] if len(here.parts) < _DEPTH else []
        found += [(here / name).as_posix() for name in names]
        if len(found) > _MOST_NAMES:
            break
    return found[:_MOST_NAMES]


def parse(text: str, reading: Reading = PLAIN) -> Source:
    """Find the source that a configuration names, perhaps in an installed package.

    A text without a scheme must match exactly one source.

    Raises:
        DataError: there is no such source, or what follows its name is missing or too much.
        ConfigError: an installed package of plugs does not load.
    """
    name, colon, rest = text.partition(":")
    shown = f"{text[:_MOST_SHOWN]}..." if len(text) > _MOST_SHOWN else text or "''"
    if "\0" in text or "\n" in text:
        raise DataError(f"{shown!r}: no name has such a character in it", hint=_LIST)
    nickname = any(_nickname(text) in source.nicknames for source in Source.known.values())
    source = Source.known.get(name) if nickname or plugins.is_known(Source, name) else None
    if source is None:
        source, rest = _meant(shown, text)
    elif bool(rest) != bool(source.placeholder) or (colon and not rest):
        what = f"{source.placeholder} is missing" if source.placeholder else "too much"
        raise DataError(f"{shown}: {what}; it is written {source.form()}", hint=_LIST)
    # checked above; a path may hold bytes that pydantic's strings cannot
    return source.model_construct(rest=rest, reading=reading)


def _meant(shown: str, text: str) -> tuple[type[Source], str]:
    """Return the only source that a text without a scheme can mean, and its rest."""

    def meant() -> list[tuple[type[Source], str]]:
        by_source = ((source, source.meant(text)) for source in Source.known.values())
        return [(source, rest) for source, rest in by_source if rest is not None]

    found = meant()
    if not found:  # a package may know it by the end of its name, or by a nickname
        plugins.load_installed()
        found = meant()
    if not found:
        raise DataError(
            f"{shown}: no such data source; {_nearest(text.partition(':')[0], text)}", hint=_LIST
        )
    if len(found) > 1:
        ways = [f"{source.name}:{rest}" if rest else source.name for source, rest in found]
        raise DataError(
            f"{shown}: it may mean {' or '.join(ways)}",
            hint="write it with the scheme that you mean",
        )
    return found[0]


def is_source(text: str) -> bool:
    """Tell whether a configuration can name a source so."""
    try:
        parse(text)
    except VaectlError:
        return False
    return True


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
    known = {
        nickname: f"{scheme}:{rest}" if rest else scheme
        for scheme, source in Source.known.items()
        for nickname, rest in source.nicknames.items()
    }
    near = near or [known[nickname] for nickname in nearest(text, known)]
    near = near or nearest(text, suggestions()) or _near_file(text)
    return f"there are {', '.join(forms())}{question(near[:1])}"


def _near_file(text: str) -> list[str]:
    """Return the file or folder of images that is named most like a text, if there is one."""
    near = str(nearest_path(Path(text)) or "")
    sources = Source.known.values()
    return [near] if near and any(source.meant(near) is not None for source in sources) else []


_LIST = "vaectl data list describes the sources"
