"""`vaectl sweep`."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaectl.base import spent
from vaectl.base.errors import ConfigError
from vaectl.base.terminal import show
from vaectl.cli import plugs
from vaectl.cli.app import PLACE, TRAIN, AsJson, Plugins, Quiet, RunsDir, app, name_option
from vaectl.cli.config import BaseAssignments
from vaectl.cli.device import MembersDevice
from vaectl.cli.studies import Asked

if TYPE_CHECKING:
    from vaectl.studies.run import How

WHAT = "What varies"


@app.command(rich_help_panel=TRAIN)
def sweep(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="CONFIG",
            help="A YAML file: a sweep, or one experiment to vary; by default the built-in "
            "experiment, which uses the embedded digits.",
            show_default=False,
        ),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUES",
            help="Values of a key: 2,5,20 or LOW:HIGH:COUNT, or LOW:HIGH:COUNT:log; with --draw or "
            "--optimize LOW:HIGH or LOW:HIGH:log. Repeatable: every combination is trained.",
            show_default=False,
            rich_help_panel=WHAT,
        ),
    ] = None,
    draw: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Train N points, drawn evenly from the ranges of --vary, instead of all "
            "combinations.",
            show_default=False,
            rich_help_panel=WHAT,
        ),
    ] = None,
    optimize: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Only search for a good point: N are drawn, compared early, and the best third "
            "trains on. One seed, unless --seeds says otherwise.",
            show_default=False,
            rich_help_panel=WHAT,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(help="Number of seeds of each point; 3 if left out.", rich_help_panel=WHAT),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the data.", rich_help_panel=WHAT)
    ] = None,
    assignments: BaseAssignments = None,
    plugin: Plugins = None,
    plan_only: Annotated[
        bool,
        typer.Option(
            "--plan", help="Print what would be trained, and how long it takes; then exit."
        ),
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Train diverged trials again.", show_default=False)
    ] = False,
    executor_: plugs.Executors = None,
    device: MembersDevice = "auto",
    name: Annotated[
        str | None,
        name_option(
            "Name of its directory; by default that of the sweep's file, or one like "
            "sweep-digits-z20-adam-code_size."
        ),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    force: Annotated[
        bool,
        typer.Option("--force", help="Begin a sweep of that name anew.", rich_help_panel=PLACE),
    ] = False,
    log: plugs.Logs = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Vary keys of an experiment: which of them matters, and which point is best.

    The same command continues an interrupted sweep, and can add values or seeds.

    Example: vaectl sweep --vary model.code_size=2,5,20 --seeds 2
    Example: vaectl sweep --vary optimizer.learning_rate=1e-4:1e-2:5:log --plan
    Example: vaectl sweep --vary optimizer.learning_rate=1e-4:1e-2:log --optimize 18
    Example: vaectl sweep configs/sweep/code-and-rate.yaml --executor processes:2
    """
    with spent.counted() as account:
        with spent.on("loading"):
            from vaectl.cli.busy import LOADING, busy
            from vaectl.studies.naming import name_of_file
            from vaectl.sweeps import options, plan

        if draw is not None and optimize is not None:
            raise ConfigError(
                f"--draw {draw} and --optimize {optimize}: both say how many points are drawn",
                hint="leave out one of them",
            )
        how: How = {
            "runs_dir": runs_dir,
            "name": name_of_file(file) if name is None else name,
            "force": force,
            "retry": retry,
            "device_kind": device,
            "sinks": plugs.sinks_of(log),
            "executor": plugs.executor_of(executor_),
        }
        asked = Asked(how, plugin or [], quiet, as_json, account)
        settings = plan.load(
            file,
            assignments=assignments or (),
            searching=optimize is not None,
            more=options.axes(vary or (), draw if optimize is None else optimize),
            options={
                "seeds": 1 if optimize and seeds is None else seeds,
                "base.epochs": epochs,
            },
        )
        with busy(LOADING, quiet=quiet), spent.on("loading"):
            from vaectl.cli.tables.studies import show_sweep
            from vaectl.sweeps import publish, run
            from vaectl.sweeps.told import told

        if plan_only:
            with asked.watching() as watch:
                left = run.planned(
                    settings, device_kind=device, executor=how["executor"], watch=watch
                )
            show(json.dumps(left._asdict()) if as_json else told(settings, left))
            return
        with asked.watching() as watch:
            how["watch"] = watch
            result = run.run(settings, **how)
            summary = publish.publish(result, watch)
        asked.show(result.path, summary, partial(show_sweep, summary))
        result.check()
        asked.end(result.path, result.trained, best=bool(summary.best))
