"""Commands that draw a trained model."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vaectl.base.terminal import show
from vaectl.cli import plugs
from vaectl.cli.app import LOOK, OUTPUT, Debug, RunsDir, app

Run = Annotated[str, typer.Argument(metavar="RUN", help="A path, a name in --runs-dir, or latest.")]
Checkpoint = Annotated[
    str, typer.Option(metavar="CHECKPOINT", help="best, latest, or the number of an epoch.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The seed of all random choices.")]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write to this .png, .svg or .pdf; by default to a PNG in the run's figures/.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
SaveArrays = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.npz",
        help="Save the arrays of the picture too.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]


class Split(StrEnum):
    """A split of the data."""

    train = "train"
    validation = "validation"
    test = "test"


SplitChoice = Annotated[Split, typer.Option(help="The split of the data.")]


class Draw(StrEnum):
    """The two ways to show p(x|z)."""

    mean = "mean"
    binary = "binary"


class Spacing(StrEnum):
    """The spacing of a grid."""

    linear = "linear"
    quantile = "quantile"


class Space(StrEnum):
    """The space in which to morph."""

    both = "both"
    latent = "latent"
    image = "image"


class Way(StrEnum):
    """The path between two codes."""

    linear = "linear"
    spherical = "spherical"


@app.command(rich_help_panel=LOOK)
def sample(
    run: Run,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="The number of samples.")] = 100,
    temperature: Annotated[
        float, typer.Option(min=0, max=100, help="The standard deviation of the codes.")
    ] = 1.0,
    draw: Annotated[Draw, typer.Option(help="Means of the pixels, or binary draws.")] = Draw.mean,
    checkpoint: Checkpoint = "best",
    seed: Seed = 0,
    out: Out = None,
    save_arrays: SaveArrays = None,
    runs_dir: RunsDir = Path("runs"),
    plugin: plugs.Plugins = None,  # noqa: ARG001  # its callback acts
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """Decode codes from the prior, in a grid (the paper's Fig. 4).

    Example: vaectl sample latest --count 64 --temperature 0.8
    """
    from vaectl.pictures import views as look

    model = look.open_run(run, runs_dir, checkpoint, out, save_arrays)
    view = look.sample(model, count=count, temperature=temperature, draw=draw.value, seed=seed)
    show(look.save(model, view, out, save_arrays))


@app.command(rich_help_panel=LOOK)
def manifold(
    run: Run,
    grid: Annotated[int, typer.Option(min=1, max=100, help="Images per row and column.")] = 20,
    limit: Annotated[
        float, typer.Option("--range", min=0, max=100, help="Coordinates go from -RANGE to RANGE.")
    ] = 3.0,
    spacing: Annotated[
        Spacing, typer.Option(help="Equal distances, or equal probabilities under the prior.")
    ] = Spacing.linear,
    dims: Annotated[
        tuple[int, int] | None,
        typer.Option(
            metavar="I J",
            help="The two dimensions of the plane; by default the most active.",
            show_default=False,
        ),
    ] = None,
    anchor: Annotated[
        int | None,
        typer.Option(
            metavar="INDEX",
            help="Set the other dimensions to the posterior mean of this test image; "
            "by default to zero.",
            show_default=False,
        ),
    ] = None,
    checkpoint: Checkpoint = "best",
    seed: Seed = 0,  # noqa: ARG001  # accepted as by the other commands; nothing here is random
    out: Out = None,
    save_arrays: SaveArrays = None,
    runs_dir: RunsDir = Path("runs"),
    plugin: plugs.Plugins = None,  # noqa: ARG001  # its callback acts
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """Decode a plane of the latent space (the paper's Fig. 5).

    Example: vaectl manifold latest --grid 15 --spacing quantile
    """
    from vaectl.pictures import views as look

    model = look.open_run(run, runs_dir, checkpoint, out, save_arrays)
    view = look.manifold(
        model, grid=grid, limit=limit, spacing=spacing.value, dims=dims, anchor=anchor
    )
    show(look.save(model, view, out, save_arrays))


@app.command(rich_help_panel=LOOK)
def morph(
    run: Run,
    rows: Annotated[int, typer.Option(min=1, max=100, help="Rows, with one morph each.")] = 12,
    steps: Annotated[int, typer.Option(min=2, max=100, help="Images per row.")] = 13,
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="I:J",
            help="Morph from test image I to test image J; repeatable; by default a chain of "
            "images of different classes.",
            show_default=False,
        ),
    ] = None,
    space: Annotated[Space, typer.Option(help="The space in which to morph.")] = Space.both,
    path: Annotated[Way, typer.Option(help="The path through the latent space.")] = Way.linear,
    from_mean: Annotated[
        bool, typer.Option("--from-mean", help="Use posterior means instead of posterior samples.")
    ] = False,
    checkpoint: Checkpoint = "best",
    seed: Seed = 0,
    out: Out = None,
    save_arrays: SaveArrays = None,
    runs_dir: RunsDir = Path("runs"),
    plugin: plugs.Plugins = None,  # noqa: ARG001  # its callback acts
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """Morph images in image space and in latent space (the paper's Fig. 6).

    Example: vaectl morph latest --pairs 0:1 --pairs 1:2 --path spherical
    """
    from vaectl.pictures import views as look

    chosen = look.parse_pairs(pairs or ())
    model = look.open_run(run, runs_dir, checkpoint, out, save_arrays)
    view = look.morph(
        model,
        rows=rows,
        steps=steps,
        pairs=chosen,
        space=space.value,
        path=path.value,
        from_mean=from_mean,
        seed=seed,
    )
    show(look.save(model, view, out, save_arrays))


@app.command(rich_help_panel=LOOK)
def reconstruct(
    run: Run,
    count: Annotated[int, typer.Option(min=1, max=1000, help="The number of images.")] = 20,
    split: SplitChoice = Split.test,
    checkpoint: Checkpoint = "best",
    seed: Seed = 0,
    out: Out = None,
    save_arrays: SaveArrays = None,
    runs_dir: RunsDir = Path("runs"),
    plugin: plugs.Plugins = None,  # noqa: ARG001  # its callback acts
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """Show images beside their reconstructions, with the difference and the ELBO of each.

    Example: vaectl reconstruct latest --count 30
    """
    from vaectl.pictures import views as look

    model = look.open_run(run, runs_dir, checkpoint, out, save_arrays)
    view = look.reconstruct(model, count=count, split_name=split.value, seed=seed)
    show(look.save(model, view, out, save_arrays))


@app.command(rich_help_panel=LOOK)
def inspect(
    run: Run,
    split: SplitChoice = Split.test,
    checkpoint: Checkpoint = "best",
    seed: Seed = 0,
    out: Out = None,
    save_arrays: SaveArrays = None,
    runs_dir: RunsDir = Path("runs"),
    plugin: plugs.Plugins = None,  # noqa: ARG001  # its callback acts
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """Show the latent space: KL by dimension, posterior means, aggregate posterior and prior.

    Example: vaectl inspect latest
    """
    from vaectl.pictures import views as look

    model = look.open_run(run, runs_dir, checkpoint, out, save_arrays)
    view = look.inspect(model, split_name=split.value, seed=seed)
    show(look.save(model, view, out, save_arrays))
