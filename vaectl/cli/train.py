"""`vaectl train`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaectl.base import wanted
from vaectl.base.terminal import say, show
from vaectl.cli import plugs, steps
from vaectl.cli.app import (
    PLACE,
    TRAIN,
    AsJson,
    Force,
    Plugins,
    Quiet,
    RunsDir,
    app,
    name_option,
)
from vaectl.cli.config import Assignments, ConfigFile
from vaectl.cli.device import device_option

if TYPE_CHECKING:
    from vaectl.runs.directory import RunDir

MODEL, TRAINING = "Model", "Training"


@app.command(rich_help_panel=TRAIN)
def train(
    file: ConfigFile = None,
    assignments: Assignments = None,
    plugin: Plugins = None,
    model: Annotated[str | None, plugs.option("model", "Encoder and decoder", MODEL)] = None,
    code_size: Annotated[
        int | None, typer.Option(help="Dimensions of the latent code.", rich_help_panel=MODEL)
    ] = None,
    hidden_size: Annotated[
        int | None, typer.Option(help="Units of each hidden layer.", rich_help_panel=MODEL)
    ] = None,
    likelihood: Annotated[
        str | None, plugs.option("likelihood", "Distribution of the pixels", MODEL)
    ] = None,
    prior: Annotated[str | None, plugs.option("prior", "Distribution of codes", MODEL)] = None,
    objective: Annotated[
        str | None, plugs.option("objective", "What is maximized", TRAINING)
    ] = None,
    optimizer: Annotated[
        str | None, plugs.option("optimizer", "Rule of the steps", TRAINING)
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Learning rate of the chosen optimizer.", rich_help_panel=TRAINING),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the data.", rich_help_panel=TRAINING)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images per step.", rich_help_panel=TRAINING)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of all random numbers.", rich_help_panel=TRAINING)
    ] = None,
    device: Annotated[
        str,
        device_option(
            "What to compute on: auto, cpu or gpu; several, as gpu:4 or gpu:all, share each batch "
            "of --set microbatches=N.",
            TRAINING,
        ),
    ] = "auto",
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT,N,I",
            help="Be process I of N that train one model together; process 0 listens at HOST:PORT, "
            "and writes the run. Under Slurm: auto.",
            show_default=False,
            rich_help_panel=TRAINING,
        ),
    ] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Keep the images in host memory, as for a device that cannot hold them.",
            rich_help_panel=TRAINING,
        ),
    ] = False,
    name: Annotated[
        str | None,
        name_option("Name of the run directory; by default one like mnist-z20-adam-s0."),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Go on with a run: a path, a name, or latest, the last run that train made; "
            "--epochs N trains it further.",
            show_default=False,
            rich_help_panel=PLACE,
        ),
    ] = None,
    force: Force = False,
    log: plugs.Logs = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a model: from a YAML file to checkpoints, metrics and curves.

    Example: vaectl train
    Example: vaectl train configs/mnist-z20.yaml --optimizer sgd --epochs 10
    Example: vaectl train --code-size 2 --set optimizer.schedule.name=cosine
    Example: vaectl train --resume latest
    """
    from vaectl.base.errors import ConfigError
    from vaectl.config import reading

    with _joined(cluster, device, quiet=quiet) as leads:
        if not leads:
            return
        sinks = plugs.sinks_of(log)
        options = {
            "model.name": model,
            "model.code_size": code_size,
            "model.hidden_size": hidden_size,
            "likelihood.name": likelihood,
            "prior.name": prior,
            "objective.name": objective,
            "optimizer.name": optimizer,
            "optimizer.learning_rate": learning_rate,
            "epochs": epochs,
            "batch_size": batch_size,
            "seed": seed,
        }
        run = None
        if resume is not None:
            if name is not None or force:
                raise ConfigError(
                    "--resume goes on in the run's own directory",
                    hint="leave out --name and --force",
                )
            run = _to_resume(resume, runs_dir, quiet=quiet)
        if run is not None and file is None:
            settings = run.read_config(assignments=assignments or (), options=options)
        else:
            settings = reading.load(file, assignments=assignments or (), options=options)
        from vaectl.cli.busy import LOADING, busy

        with busy(LOADING, quiet=quiet):
            from vaectl import experiment
            from vaectl.cli import progress
            from vaectl.follow import follow

        with progress.watching(quiet=quiet) as bar, follow(sinks, bar) as watch:
            if run is None:
                result = experiment.run(
                    settings,
                    runs_dir=runs_dir,
                    name=name,
                    force=force,
                    device_kind=device,
                    stream=stream,
                    watch=watch,
                )
            else:
                result = experiment.resume(
                    run,
                    settings,
                    extend=epochs is not None,
                    device_kind=device,
                    stream=stream,
                    watch=watch,
                )
    show(result.as_json() if as_json else result.summary())
    if not (quiet or as_json):
        say(steps.of_run(result.path, runs_dir, plugin or []))


@contextmanager
def _joined(cluster: str | None, device: str, *, quiet: bool) -> Iterator[bool]:
    """Join the processes that train together, if there are several; yield True if this one leads.

    In any other process, the training has ended by then.
    """
    if cluster is None:
        yield True
        return
    where = wanted.cluster(cluster)
    if not quiet:
        place = f" at {where.address}" if where.address else ""
        say(f"waiting for the other processes{place}; Ctrl-C ends it")
    from vaectl.base import cluster as processes

    with processes.joined(where, device):
        leads = processes.leads()
        if not leads:
            from vaectl import joining

            joining.take_part(device)
        yield leads


def _to_resume(name: str, runs_dir: Path, *, quiet: bool) -> "RunDir":
    """Find the run to go on with; say which one is the latest."""
    from vaectl.runs import find

    run = find.find(name, runs_dir, to_resume=True)
    find.refuse_member(run)
    if name == "latest" and not quiet:
        say(f"resuming {run.path}")
    return run
