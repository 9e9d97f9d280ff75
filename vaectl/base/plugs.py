"""Plugs, the exchangeable parts of an experiment, and the choice of one plug of a kind.

A plug is a class of settings with a few methods. It is defined in one file, and defining the class
registers it. The configuration, its JSON Schema, the command line and a comparison's entries are
derived from the registered plugs. A `Choice` is the section of a configuration that names one plug
of a kind; it has a subsection with the settings of each plug.

Built-in plugs import JAX inside their methods, so that reading a configuration does not load it.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
    model_validator,
)

from vaectl.base.errors import ConfigError
from vaectl.base.section import Section
from vaectl.base.settings import check_settings

Finding = Literal["approximation", "prior", "collapse"]
"""A problem that another plug may help against: see `vaectl.evaluation.advice.advice`."""

NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
"""The form of a plug's name."""


class Plug(Section):
    """An exchangeable part of an experiment: its settings and its methods.

    class Optimizer(Plug, kind="optimizer"): ...       a kind
    class Adam(Optimizer, name="adam"): ...            a plug of it

    A setting has a type and a default, as in `momentum: Decay = 0.9`. Its values are written in
    YAML, so its type is made of `bool`, `int`, `float`, `str`, `Literal`, `tuple`, None, and
    sections of these. Parts of an experiment are constants of compiled programs and must be
    hashable: several numbers are a tuple, as in `betas: tuple[float, float] = (0.9, 0.99)`.
    """

    kind: ClassVar[str]
    """The name of the kind, which is also the configuration's key that chooses a plug of it."""
    name: ClassVar[str]
    """The plug's name in a configuration."""
    known: ClassVar[dict[str, type[Any]]]
    """All registered plugs of the kind, by name."""

    taken: ClassVar[frozenset[str]] = frozenset()
    """Names that mean something else in the section that chooses a plug of the kind."""

    argument: ClassVar[str] = ""
    """The setting whose value may follow the name in an option, as in `processes:2`."""

    first_defaults: ClassVar[Mapping[str, Any]] = {}
    """The first defaults of settings whose default has changed since; keys of trials use them."""

    leaves: ClassVar[Mapping[str, Mapping[str, bytes]]] = {}
    """The files that it writes into a run directory: by folder, a pattern of their names, and a
    pattern of how their content begins. They are removed together with the run."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Packages that it imports, and that vaectl is installed without."""
    install: ClassVar[str] = ""
    """The command that installs them; by default it is that of the extra of the plug's name."""

    def check_installed(self) -> None:
        """Refuse to work without the packages that it needs.

        Raises:
            ConfigError: one of them is not installed.
        """
        if missing := [package for package in self.needs if find_spec(package) is None]:
            raise ConfigError(
                f"the {self.kind} {self.name} needs {', '.join(missing)}, which is not installed",
                hint=self.install or f"pip install 'vaectl[{self.name}]'",
            )

    @classmethod
    def protocol(cls) -> type[Plug]:
        """Return the base class of the kind."""
        return next(base for base in Plug.__subclasses__() if base.kind == cls.kind)

    @property
    def short_name(self) -> str:
        """The name in letters, digits and hyphens, for names of runs; it may tell a setting."""
        return self.name.replace("_", "-")

    @classmethod
    def against(cls, finding: Finding, experiment: Any) -> str | None:
        """Return what to set with this plug against a problem of a diagnosis; None if nothing.

        Args:
            finding: what is wrong with a trained model.
            experiment: the whole configuration of that model.
        """
        del finding, experiment
        return None

    def __init_subclass__(cls, **_: Any) -> None:
        super().__init_subclass__()  # options are handled once the class is complete

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, kind: str | None = None, name: str | None = None, **options: Any
    ) -> None:
        """Register a kind, or a plug of one.

        Raises:
            ConfigError: the name is not usable or is taken, a method is missing, or a setting
                cannot be one.
        """
        super().__pydantic_init_subclass__(**options)
        if kind is not None:
            cls.kind, cls.known = kind, {}
        if name is not None:
            cls.name = name
            _refuse_unusable(cls, name)
            cls.known[name] = cls

    def suits(self, experiment: Any) -> None:
        """Refuse an experiment whose other parts this one cannot work with.

        Raises:
            PydanticCustomError: see `vaectl.base.section.conflict`.
        """


P = TypeVar("P", bound=Plug)


class Choice(Section, Generic[P]):
    """The section of a configuration that chooses one plug of a kind.

    It has `name`, keys that all plugs of the kind share, and a subsection for each plug. A key of
    the chosen plug may also be written beside `name` instead of in the plug's subsection.
    """

    plugs: ClassVar[type[Plug]]
    """The base class of the kind."""
    default: ClassVar[str]
    """The name of the plug that is chosen by default."""

    name: str

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Tell the kind which names are taken by other keys of the section."""
        super().__pydantic_init_subclass__(**options)
        if "plugs" in vars(cls):
            cls.plugs.taken = frozenset(cls.model_fields)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return the subsection of a plug."""

    @classmethod
    def sections(cls) -> dict[str, type[Plug]]:
        """Return the plugs that have a subsection, by name."""
        return {name: plug for name, plug in cls.plugs.known.items() if name in cls.model_fields}

    @classmethod
    def shared_fields(cls) -> list[str]:
        """Name the keys that all plugs of the kind share."""
        return [key for key in cls.model_fields if key != "name" and key not in cls.sections()]

    @property
    def chosen(self) -> P:
        """The chosen plug, with its settings."""
        plug: P = getattr(self, self.name)
        return plug

    @property
    def unusual(self) -> list[str]:
        """The short name of the chosen plug, unless it is the default one."""
        return [] if self.name == self.default else [self.chosen.short_name]

    def with_chosen(self, **settings: object) -> Self:
        """Return the same choice with other settings of the chosen plug."""
        chosen = self.chosen.model_copy(update=settings)
        return self.model_copy(update={self.name: chosen})

    def alone(self) -> Self:
        """Return the same choice with the default settings of all plugs that are not chosen."""
        others = {name: plug() for name, plug in self.sections().items() if name != self.name}
        return self.model_copy(update=others)

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        name = values.get("name")
        return cls.written_out(values, name if isinstance(name, str) else cls.default)

    @classmethod
    def written_out(cls, section: dict[str, Any], name: str) -> dict[str, Any]:
        """Move keys beside the name of a plug into its subsection, unless they are there too."""
        inner = section.get(name, {})
        own = {
            key: value
            for key, value in section.items()
            if isinstance(inner, dict) and key not in inner and len(cls.path_of(key, name)) > 1
        }
        rest = {key: value for key, value in section.items() if key not in own}
        return {**rest, name: {**inner, **own}} if own else section

    @classmethod
    def path_of(cls, key: str, name: str) -> tuple[str, ...]:
        """Return the path of a key that is written beside the name of a plug."""
        known = cls.plugs.known
        own = name in known and key in known[name].model_fields
        # a key of the section itself, or a subsection, comes first: objective.beta is a subsection
        return (name, key) if own and key not in {*cls.model_fields, *known} else (key,)

    @model_serializer(mode="wrap")
    def _without_defaults_of_others(self, serialize: SerializerFunctionWrapHandler) -> Any:
        """Leave out empty subsections, and those of other plugs that have default values."""
        values = serialize(self)
        for name, plug in self.sections().items():
            other = name != self.name and getattr(self, name) == plug()
            if other or not plug.model_fields:
                values.pop(name, None)
        return values


C = TypeVar("C", bound=Choice[Any])


def choice(base: type[C]) -> type[C]:
    """Add `name` and a subsection for each plug that is registered now."""
    names = tuple(base.plugs.known)
    sections: Mapping[str, Any] = {
        name: (plug, Field(default=plug(), description=inspect.getdoc(plug)))
        for name, plug in base.plugs.known.items()
    }
    name: Any = (
        Literal[names],
        Field(default=base.default, description=f"Which {base.plugs.kind}."),
    )
    complete: type[C] = create_model(
        base.__name__, __base__=base, __module__=base.__module__, name=name, **sections
    )
    return complete


def known(kind: str) -> Mapping[str, type[Plug]]:
    """Return the plugs of a kind by name; an unknown kind has none."""
    return next((base.known for base in Plug.__subclasses__() if base.kind == kind), {})


def import_all(package: str) -> None:
    """Import all modules of a package, which registers their plugs."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")


def _refuse_unusable(plug: type[Plug], name: str) -> None:
    """Refuse a plug that no configuration could choose, or whose settings it could not set."""
    what = f"{_file(plug)}: the {plug.kind} {name}"
    others = {other: each for other, each in plug.known.items() if other != name}
    protocol = plug.protocol()
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{what}: not usable as the name of a plug",
            hint="use small letters, digits, '_' and '-', and begin with a letter",
        )
    is_key = plug.taken and any(name in each.model_fields for each in others.values())
    if name in plug.taken or is_key or hasattr(Choice, name):
        raise ConfigError(
            f"{what}: the name has another meaning in that section of a configuration",
            hint="give it another name",
        )
    if name in plug.known and not _is_defined_again(plug, plug.known[name]):
        raise ConfigError(
            f"{what} is there already, in {_file(plug.known[name])}",
            hint="give it another name",
        )
    if missing := sorted(plug.__abstractmethods__):
        raise ConfigError(
            f"{what} lacks {', '.join(missing)}",
            hint=f"define it as {protocol.__module__} describes it",
        )
    keys = {*plug.taken, *others} if plug.taken else set()
    for key in plug.model_fields.keys() - protocol.model_fields.keys():
        if key in keys or key in protocol.__class_vars__ or hasattr(protocol, key):
            raise ConfigError(
                f"{what}: the name of its setting {key} has another meaning for each {plug.kind}",
                hint="give the setting another name",
            )
    check_settings(plug, what, hashable=bool(plug.taken))


def _file(plug: type[Any]) -> str:
    try:
        return inspect.getfile(plug)
    except (OSError, TypeError):  # defined interactively
        return plug.__module__


def _is_defined_again(plug: type[Any], other: type[Any]) -> bool:
    """Tell whether a class replaces another one, as a notebook's cell does that is run again."""
    names = {(each.__module__, each.__qualname__) for each in (plug, other)}
    return names == {("__main__", plug.__qualname__)}
