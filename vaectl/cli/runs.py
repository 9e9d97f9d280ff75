"""`vaectl runs`: the list of runs, and the removal of runs."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from vaectl.base.errors import ConfigError, RunError
from vaectl.base.nearest import did_you_mean
from vaectl.base.terminal import say, show, visible
from vaectl.cli.app import KEEP, AsJson, Commands, Debug, RunsDir, app
from vaectl.cli.usage import Group

Order = Literal["name", "status", "data", "model", "optimizer", "epochs", "elbo", "age"]
"""The columns of the table, by which rows are sorted."""


class _Listing(Group):
    """A command that also has a sub-command: `runs` and `runs rm`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Pass everything after `rm` to `rm`; the argument of `runs` keeps its default."""
        below = bool(args) and args[0] in self.commands
        ctx.allow_interspersed_args = not below
        return super().parse_args(ctx, ["*", *args] if below else args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Refuse a second pattern: the shell expanded the first one, or a command is misspelled."""
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        pattern = ctx.params["pattern"]
        if pattern in self.commands:
            raise ConfigError(
                f"vaectl runs: {pattern} comes before all options",
                hint=f"vaectl runs {pattern} {' '.join(args)} ...",
            )
        raise ConfigError(
            f"{' '.join([pattern, *args])}: vaectl runs takes one pattern"
            + did_you_mean(pattern, self.commands),
            hint="quote a pattern for the shell: vaectl runs 'mnist-*'",
        )

    def get_params(self, ctx: Any) -> list[Any]:
        """Hide the parameters from a sub-command, whose usage line would name them."""
        return super().get_params(ctx) if ctx.command is self else []


runs_app = Commands(cls=_Listing)
app.add_typer(runs_app, name="runs", rich_help_panel=KEEP)


@runs_app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    pattern: Annotated[str, typer.Argument(metavar="GLOB", help="Only matching names.")] = "*",
    sort: Annotated[
        Order,
        typer.Option(
            metavar="COLUMN",
            help=f"{', '.join(get_args(Order))}. By age, the newest is first; by elbo, the best of "
            "those that compare.",
        ),
    ] = "age",
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Only runs with optimizer=adam, status=failed, data=mnist, 'elbo>-100', 'age<2d', "
            "...: a column, or a key of the configuration such as model.code_size; repeatable.",
            show_default=False,
        ),
    ] = None,
    members: Annotated[
        bool, typer.Option("--members", help="A row for each run of a comparison or a sweep.")
    ] = False,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """List runs; vaectl runs rm removes some.

    The column elbo has the best ELBO on the validation split. A comparison or a sweep is one row:
    status counts its runs, and epochs are those of its shortest and its longest run. A terminal
    shows as many columns as fit; a pipe gets all of them, separated by tabs, one line per run.
    --json prints everything, including the members of comparisons.

    Example: vaectl runs 'mnist-z20-*' --sort elbo
    Example: vaectl runs --where optimizer=adam --where 'elbo>-100'
    Example: vaectl runs rm digits-5k-z20-adam-s0
    """
    if context.invoked_subcommand:
        return
    import json

    from vaectl.cli.busy import busy
    from vaectl.cli.tables.runs import show_runs
    from vaectl.runs import find, listing

    with busy(after=0.5) as tell:
        rows = find.summaries(runs_dir, pattern, partial(tell, f"reading {runs_dir}"))
    conditions = listing.parse(where or (), rows)
    chosen = [row for row in rows if all(each.holds(row) for each in conditions)]
    if as_json:
        told = [row._asdict() for row in listing.ordered(chosen, sort)]
        show(json.dumps({"runs": told}))
        return
    if not members and "/" not in pattern:
        chosen = listing.folded(chosen)
    groups = listing.measures(chosen) if sort == "elbo" else None
    chosen = listing.ordered(chosen, sort)
    show_runs(chosen, runs_dir, [pattern, *(where or ())], groups)


@runs_app.command("rm", plugins=False)
def remove(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_NAME",
            help="Names in --runs-dir, patterns of them such as 'digits-*', or paths, of runs and "
            "comparisons.",
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Remove runs and comparisons: the files that vaectl made, and no others.

    It lists what will be removed, with sizes, and asks once.

    Example: vaectl runs rm digits-5k-z20-adam-s0 digits-5k-z20-sgd-s0
    Example: vaectl runs rm 'digits-*'
    Example: vaectl runs rm compare-digits-5k-z20-tuned --yes
    """
    import sys

    from vaectl.base.files import size_of
    from vaectl.runs import find

    found = find.to_remove(names, runs_dir)
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError(
                "runs are removed only after a confirmation, and there is no terminal to ask on",
                hint="--yes removes without asking",
            )
        sizes = {path: size_of(path) for path in found}
        for path, size in sizes.items():
            say(f"{_megabytes(size):>10}  {path}")
        what = f"these {len(found)}" if len(found) > 1 else "it"
        if not _confirmed(f"Remove {what} ({_megabytes(sum(sizes.values()))})?"):
            say("nothing was removed")
            return
    errors = []
    for path in found:
        try:
            for kept in _remove(path):
                say(f"kept, not made by vaectl: {kept}")
            show(path)
        except RunError as error:
            errors.append(error)
    if errors:
        messages = "\n".join(error.message for error in errors)
        raise RunError(messages, hint=errors[0].hint)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _confirmed(question: str) -> bool:
    """Ask a question; the end of the input counts as no."""
    try:
        return typer.confirm(visible(question), err=True)
    except typer.Abort:
        say("")
        return False


def _remove(path: Path) -> list[str]:
    """Remove a run or a comparison; return the paths of files that vaectl did not make."""
    from vaectl.runs.directory import RunDir
    from vaectl.runs.find import is_study

    if not is_study(path):
        return RunDir(path).remove()
    from vaectl.studies import directory

    return directory.remove(path)
