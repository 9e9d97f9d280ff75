"""Messages for a command line that cannot be understood, in the style of all other errors."""

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from vaectl.base.errors import ConfigError
from vaectl.base.nearest import did_you_mean

if TYPE_CHECKING:
    _Base = TyperCommand
else:
    _Base = object


class _Plain(_Base):
    """A command whose help and messages are plain."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options and arguments, with the metavars that the help shows.

        Typer does not check files: the code that reads a file has better error messages.
        """
        found: list[Any] = super().get_params(ctx)
        for each in found:
            declared = getattr(getattr(each, "type_descriptor", None), "parameter_info", None)
            if declared is not None:
                declared.readable = False
            if each.param_type_name == "argument":
                each.display_type_rich = _no_type
            elif each.metavar is None:
                each.metavar = _metavar(each, ctx)
        return found

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line, without the braces of required arguments."""
        return [re.sub("[{}]", "", piece) for piece in super().collect_usage_pieces(ctx)]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read options and arguments.

        Raises:
            ConfigError: they cannot be understood.
        """
        typed = [*args]
        try:
            rest: list[str] = super().parse_args(ctx, args)
        except typer.TyperException as error:
            message, hint = _explained(error, ctx, typed)
            raise ConfigError(message, hint=f"{ctx.command_path} --help {hint}") from None
        return rest


class Command(_Plain, TyperCommand):
    """A command."""


class Group(_Plain, TyperGroup):
    """A command with sub-commands; without arguments it prints its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options before a command.

        Raises:
            ConfigError: they cannot be understood, or no command follows.
        """
        if not args and self.no_args_is_help:
            typer.echo(ctx.get_help(), nl=False)
            ctx.exit(2)
        rest = super().parse_args(ctx, args)
        if not (ctx._protected_args or self.invoke_without_command):
            raise ConfigError(
                f"{ctx.command_path}: a command is missing",
                hint=f"{ctx.command_path} --help lists the commands",
            )
        return rest

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command of a name.

        Raises:
            ConfigError: there is none.
        """
        if self.get_command(ctx, args[0]) is None:
            near = did_you_mean(args[0], self.commands)
            raise ConfigError(
                f"{ctx.command_path} {args[0]}: no such command{near}",
                hint=f"{ctx.command_path} --help lists the commands",
            )
        return super().resolve_command(ctx, args)


def _no_type(ctx: Any) -> None:
    """Hide the type of an argument: its name is already shown in capitals."""


def _metavar(option: Any, ctx: Any) -> str:
    """Return what the help shows as the value of an option: nothing for a switch."""
    if option.is_flag:
        return ""
    kind: str = option.display_type(ctx).strip("<>")
    return _METAVARS.get(kind.removesuffix(" range"), kind)


_METAVARS = {"int": "N", "float": "NUMBER", "str": "TEXT", "path": "PATH"}


def _explained(error: typer.TyperException, ctx: Any, typed: list[str]) -> tuple[str, str]:
    """Return what is wrong, and what the help says about it; other errors keep Typer's words."""
    options = dict(named_options(ctx.command.get_params(ctx)))
    parameter, option = (getattr(error, name, None) for name in ("param", "option_name"))
    words = error.format_message()
    if parameter is not None and hasattr(error, "param_type"):
        return f"{_name(parameter)} is missing", "has examples"
    if parameter is not None:
        name = _name(parameter)
        return f"{name}: {_bad_value(error, parameter, ctx)}", f"describes {name}"
    if option in options:
        takes = 0 if options[option].is_flag else options[option].nargs
        values = {0: "no value", 1: "a value"}.get(takes, f"{takes} values")
        return f"{option}: it takes {values}", f"describes {option}"
    if option is not None:
        # for -epochs, Typer only names -e
        word = next((word for word in typed if word.startswith(option)), option).partition("=")[0]
        return f"{word}: no such option{did_you_mean(word, options)}", "lists the options"
    if extra := re.search(r"extra argument\S* \((.*)\)$", words):
        return f"{extra[1]}: more arguments than {ctx.command_path} takes", "has examples"
    return words, "has examples"


def _bad_value(error: typer.TyperException, parameter: Any, ctx: Any) -> str:
    """Say what the value of an option or argument should be, and what it is."""
    from pydantic import ValidationError

    from vaectl.base.validation import reason, shown

    if not isinstance(error.__cause__, ValidationError):
        return str(error.message)
    details = error.__cause__.errors()[0]
    known = choices(parameter, ctx)
    should = f"should be one of {', '.join(known)}" if known else reason(details)
    given = str(details["input"])
    told = given if given and given.isprintable() and len(given) < 60 else shown(given)
    return f"{should}, not {told}{did_you_mean(given, known)}"


def _name(parameter: Any) -> str:
    """Name an option as it is typed, and an argument as the help does."""
    if parameter.param_type_name == "option":
        return str(max(parameter.opts, key=len))
    return f"the argument {parameter.metavar or parameter.name.upper()}"


def choices(parameter: Any, ctx: Any) -> list[str]:
    """Return the values of an option or argument that completion offers."""
    return [item.value for item in parameter.shell_complete(ctx, "") if item.type == "plain"]


def named_options(parameters: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the options among parameters by each of their names."""
    for parameter in parameters:
        if parameter.param_type_name == "option":
            for name in (*parameter.opts, *parameter.secondary_opts):
                yield name, parameter
