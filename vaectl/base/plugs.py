"""Plugs: the parts of an experiment that can be exchanged, and how one of a kind is chosen.

A plug is a class of settings with a few methods. It stands in one file and registers itself by its
definition; the configuration, its JSON Schema, the command line and the comparison's entries are
derived from what is registered. A `Choice` is the section of a configuration that names one plug of
a kind, with a section for the settings of each.

No JAX: a built-in plug imports it inside its methods, so that a configuration is read without it.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
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


class Plug(Section):
    """A part of an experiment that can be exchanged: its settings, and what it does.

    class Optimizer(Plug, kind="optimizer"): ...       a kind
    class Adam(Optimizer, name="adam"): ...            a plug of it
    """

    kind: ClassVar[str]
    """What plugs of its kind are called, and the key of the configuration that chooses one."""
    name: ClassVar[str]
    """What it is called in a configuration."""
    known: ClassVar[dict[str, type[Any]]]
    """The plugs of its kind, by name."""

    def __init_subclass__(
        cls, *, kind: str | None = None, name: str | None = None, **options: Any
    ) -> None:
        super().__init_subclass__(**options)
        if kind is not None:
            cls.kind, cls.known = kind, {}
        if name is not None:
            there = cls.known.get(name)
            if there is not None:
                raise ConfigError(
                    f"{_file(cls)}: the {cls.kind} {name} is there already, in {_file(there)}",
                    hint="give it another name",
                )
            cls.name = name
            cls.known[name] = cls


P = TypeVar("P", bound=Plug)


class Choice(Section, Generic[P]):
    """One plug of a kind, what all of the kind share, and a section for the settings of each.

    A key of the chosen plug may also stand beside `name`, outside of the plug's own section.
    """

    plugs: ClassVar[type[Plug]]
    """The kind."""
    default: ClassVar[str]
    """The plug that is chosen where nothing else is."""

    name: str

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return the settings of one of the plugs."""

    @classmethod
    def sections(cls) -> dict[str, type[Plug]]:
        """Return the plugs that it has a section for, by name."""
        return {name: plug for name, plug in cls.plugs.known.items() if name in cls.model_fields}

    @classmethod
    def shared_fields(cls) -> list[str]:
        """Name what all plugs of the kind share."""
        return [key for key in cls.model_fields if key != "name" and key not in cls.sections()]

    @property
    def chosen(self) -> P:
        """The plug that `name` names, with its settings."""
        plug: P = getattr(self, self.name)
        return plug

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
    def _own_keys(cls, values: object) -> object:
        """Move keys of the chosen plug into its section."""
        if not isinstance(values, dict):
            return values
        name = values.get("name", cls.default)
        plug = cls.sections().get(name if isinstance(name, str) else cls.default)
        section = {} if plug is None else values.get(plug.name, {})
        if plug is None or not isinstance(section, dict):
            return values
        own = {
            key: value
            for key, value in values.items()
            if key in plug.model_fields and key not in cls.model_fields and key not in section
        }
        if not own:
            return values
        rest = {key: value for key, value in values.items() if key not in own}
        return {**rest, plug.name: {**section, **own}}

    @model_serializer(mode="wrap")
    def _without_defaults_of_others(self, serialize: SerializerFunctionWrapHandler) -> Any:
        """Leave out sections without settings, and others' where they are the defaults."""
        values = serialize(self)
        for name, plug in self.sections().items():
            other = name != self.name and getattr(self, name) == plug()
            if other or not plug.model_fields:
                values.pop(name, None)
        return values


C = TypeVar("C", bound=Choice[Any])


def choice(base: type[C]) -> type[C]:
    """Complete a choice by a `name` and a section for each plug that is registered now."""
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
    """Return the plugs of a kind by name; there are none of a kind that nobody defined."""
    return next((base.known for base in Plug.__subclasses__() if base.kind == kind), {})


def import_all(package: str) -> None:
    """Import the modules of a package of plugs, each of which registers its own."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")


def _file(plug: type[Any]) -> str:
    try:
        return inspect.getfile(plug)
    except (OSError, TypeError):  # defined at a prompt
        return plug.__module__
