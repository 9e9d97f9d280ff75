"""vaectl: the command line for variational auto-encoder experiments, from Python.

    import vaectl
    run = vaectl.train({"epochs": 10, "model": {"code_size": 2}}, name="two")
    run.metrics["elbo"]                      # columns of metrics.csv, as NumPy arrays
    model = vaectl.load("two")               # or run.model(), or the path of a run
    mu, log_var = model.encode(images)

Nothing heavy is imported before it is used.
"""

# no import of the standard library: under `python -m vaectl` a file in the current directory could
# stand in for it, until `vaectl.base.surroundings` has been there
from vaectl.version import VERSION as __version__  # noqa: N811

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from vaectl.config import Config
    from vaectl.runs.run import Run
    from vaectl.runs.trained import Trained
    from vaectl.sinks import Sink

__all__ = ["__version__", "load", "open_run", "train"]


def train(
    config: "Config | Mapping[str, Any] | Path | str | None" = None,
    *,
    name: str | None = None,
    runs_dir: "Path | str" = "runs",
    force: bool = False,
    device: str = "auto",
    sinks: "Sequence[Sink | str] | Sink | str" = (),
) -> "Run":
    """Train a model and leave a run directory, with the same numbers as `vaectl train`.

    Threads of one process may train at the same time, each a run of its own.

    Args:
        config: a configuration, its keys as a mapping, or a YAML file; None for the default.
        name: of the run directory; None for one made from the settings.
        runs_dir: where it goes.
        force: whether an existing run of that name is replaced.
        device: what to compute on: `auto`, `cpu` or `gpu`; several, as `gpu:4`, share each batch
            of `microbatches`.
        sinks: what else gets the results: a list of sinks, each as text like that of `--log` or as
            an object of a class of your own; or a single one.

    Raises:
        VaectlError: the error that the command would print, as the texts `message` and `hint`.
    """
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from vaectl import experiment, follow
    from vaectl.base import devices
    from vaectl.base.errors import ConfigError
    from vaectl.config import reading, schema
    from vaectl.runs.directory import RunDir
    from vaectl.runs.run import Run
    from vaectl.sinks import Sink, parse

    several = sinks if isinstance(sinks, Sequence) and not isinstance(sinks, str) else [sinks]
    followers = [parse(sink) if isinstance(sink, str) else sink for sink in several]
    for follower in followers:
        if not isinstance(follower, Sink):
            raise ConfigError(
                f"{follower!r} is not a sink",
                hint="give text like that of --log, or an object such as MySink()",
            )
    if config is None or isinstance(config, str | Path):
        settings = reading.load(None if config is None else Path(config))
    elif isinstance(config, Mapping):
        settings = reading.of_mapping(config)
    elif isinstance(config, schema.Experiment):
        # its class may be older than the last plug that was registered
        settings = reading.of_mapping(config.model_dump())
    else:
        raise ConfigError(
            f"a configuration cannot be of the type {type(config).__name__}",
            hint="give its keys as a mapping, a YAML file, or what vaectl.config.Config makes",
        )
    with devices.pinned(), follow.follow(followers, follow.log_warnings) as watch:
        result = experiment.run(
            settings,
            runs_dir=Path(runs_dir),
            name=name,
            force=force,
            device_kind=device,
            watch=watch,
        )
    return Run(RunDir(result.path))


def load(
    run: "Path | str", checkpoint: str | int = "best", *, runs_dir: "Path | str" = "runs"
) -> "Trained":
    """Load the model of a run: see `vaectl.runs.trained.Trained` for what it does.

    Args:
        run: the path of a run directory, a name in `runs_dir`, or `latest`.
        checkpoint: `best` by the validation split, `latest`, or the number of an epoch.
        runs_dir: where names are looked for.

    Raises:
        RunError: not a run, no such checkpoint, or a damaged one.
    """
    return open_run(run, runs_dir=runs_dir).model(checkpoint)


def open_run(run: "Path | str", *, runs_dir: "Path | str" = "runs") -> "Run":
    """Open a run: its configuration, record and metrics.

    Args:
        run: the path of a run directory, a name in `runs_dir`, or `latest`.
        runs_dir: where names are looked for.

    Raises:
        RunError: no such run.
    """
    from pathlib import Path

    from vaectl.runs import find
    from vaectl.runs.run import Run

    return Run(find.find(str(run), Path(runs_dir)))
