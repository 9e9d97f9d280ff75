"""`vaectl compare-optimizers`."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaectl.base import spent
from vaectl.cli import plugs
from vaectl.cli.app import PLACE, TRAIN, AsJson, Plugins, Quiet, RunsDir, app, name_option
from vaectl.cli.config import BaseAssignments
from vaectl.cli.device import MembersDevice
from vaectl.cli.studies import Asked

if TYPE_CHECKING:
    from vaectl.studies.run import How

WHAT = "Comparison"


@app.command("compare-optimizers", rich_help_panel=TRAIN)
def compare_optimizers(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="CONFIG",
            help="A YAML file; by default the built-in comparison, which uses the embedded digits.",
            show_default=False,
        ),
    ] = None,
    assignments: BaseAssignments = None,
    plugin: Plugins = None,
    optimizers: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help=f"Some of {', '.join(plugs.names('optimizer'))}.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    add: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="Add these to those of CONFIG, for instance one of your own from --plugin.",
            rich_help_panel=WHAT,
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="paper|tuned",
            help="paper: each at its own learning rate; tuned: at the best of a search.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Number of seeds of the result.", rich_help_panel=WHAT)
    ] = None,
    learning_rates: Annotated[
        str | None,
        typer.Option(
            metavar="N,N",
            help="A grid for every optimizer, like 1e-4,3e-4,1e-3.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Instead of a grid, N points of tuning.space for every optimizer.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the data.", rich_help_panel=WHAT)
    ] = None,
    code_size: Annotated[
        int | None, typer.Option(help="Dimensions of the latent code.", rich_help_panel=WHAT)
    ] = None,
    executor_: plugs.Executors = None,
    device: MembersDevice = "auto",
    name: Annotated[
        str | None,
        name_option(
            "Name of its directory; by default the file's, or one like compare-mnist-z20-tuned."
        ),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Begin a comparison of that name anew.", rich_help_panel=PLACE
        ),
    ] = False,
    log: plugs.Logs = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare optimizers: paired seeds, equal tuning, statistics, and a page that shows them.

    The same command continues an interrupted comparison, and can add optimizers or seeds. A file
    with several workloads makes a comparison of each, and a performance profile over them.

    Example: vaectl compare-optimizers --optimizers adam,sgd --seeds 3
    Example: vaectl compare-optimizers --learning-rates 3e-4,1e-3,3e-3 --set batch_size=250
    Example: vaectl compare-optimizers configs/compare/paper-z20.yaml
    Example: vaectl compare-optimizers configs/compare/quick.yaml --add lion,muon
    Example: vaectl compare-optimizers configs/compare/workloads-quick.yaml
    """
    with spent.counted() as account:
        with spent.on("loading"):
            from vaectl.cli.busy import LOADING, busy
            from vaectl.comparison import plan
            from vaectl.profiles import plan as profiles
            from vaectl.studies.naming import name_of_file

        how: How = {
            "runs_dir": runs_dir,
            "name": name_of_file(file) if name is None else name,
            "force": force,
            "device_kind": device,
            "sinks": plugs.sinks_of(log),
            "executor": plugs.executor_of(executor_),
        }
        asked = Asked(how, plugin or [], quiet, as_json, account)
        added = plan.words(add or "")
        more = added if optimizers is None else []
        rates = None if learning_rates is None else plan.numbers(learning_rates)
        options = {
            "protocol": protocol,
            "optimizers": None if optimizers is None else [*plan.words(optimizers), *added],
            "seeds": seeds,
            "tuning.learning_rates": rates,
            "tuning.trials": trials,
            "base.epochs": epochs,
            "base.model.code_size": code_size,
        }
        if file is not None and profiles.has_workloads(file):
            over = profiles.load(file, assignments=assignments or (), options=options, added=more)
            with busy(LOADING, quiet=quiet), spent.on("loading"):
                from vaectl.cli import profile

            named = profiles.KEY if how["name"] is None else how["name"]
            profile.compare(over, named, asked)
            return
        settings = plan.load(file, assignments=assignments or (), options=options, added=more)

        with busy(LOADING, quiet=quiet), spent.on("loading"):
            from vaectl.cli.tables.studies import show_comparison
            from vaectl.comparison import publish, run

        with asked.watching() as watch:
            how["watch"] = watch
            result = run.run(settings, **how)
            summary = publish.publish(result, watch)
        asked.show(result.path, summary, partial(show_comparison, summary, added))
        result.check()
        asked.end(result.path, result.trained, best=bool(summary.sides[0].best_run))
