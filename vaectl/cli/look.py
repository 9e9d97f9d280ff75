"""Commands that draw a trained model."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from vaectl.base.errors import ConfigError
from vaectl.base.terminal import show
from vaectl.cli.app import LOOK, RunsDir, app
from vaectl.cli.looking import (
    Animate,
    AnimateRows,
    AnimationOut,
    Checkpoint,
    Out,
    Polarity,
    Run,
    SaveArrays,
    Seed,
    Split,
    Theme,
    Title,
    Width,
    drawing,
)


def _ranges(incomplete: str) -> list[str]:
    """Complete the name of a range."""
    from vaectl.pictures.options import NAMED_RANGES

    return [name for name in NAMED_RANGES if name.startswith(incomplete)]


Label = Annotated[
    str | None,
    typer.Option(
        metavar="CLASS",
        help="The class that a conditional model shows, by its number or its name; see "
        "model.condition.",
        show_default=False,
    ),
]


@app.command(rich_help_panel=LOOK)
def sample(
    run: Run,
    count: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            help="The number of samples; by default 100, or as many as are large enough.",
            show_default=False,
        ),
    ] = None,
    origin: Annotated[
        Literal["prior", "aggregate", "mixture"],
        typer.Option(
            "--from",
            help="Draw codes from the prior; aggregate: from the posteriors of random training "
            "images; mixture: from 10 Gaussians fitted to such codes, by scikit-learn.",
        ),
    ] = "prior",
    temperature: Annotated[
        float,
        typer.Option(min=0, max=100, help="A factor of the standard deviation of the codes."),
    ] = 1.0,
    draw: Annotated[
        Literal["mean", "binary"], typer.Option(help="Means of the pixels, or binary draws.")
    ] = "mean",
    label: Label = None,
    checkpoint: Checkpoint = "best",
    seed: Seed = 0,
    title: Title = None,
    width: Width = None,
    style: Theme = "paper",
    polarity: Polarity = "auto",
    animate: Animate = False,
    out: AnimationOut = None,
    save_arrays: SaveArrays = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Show images that the model makes up: codes from the prior, decoded (Fig. 4).

    Example: vaectl sample latest --count 64 --temperature 0.8
    Example: vaectl sample latest --from aggregate
    """
    from vaectl.pictures import style as styles

    looks = styles.parse(theme=style, width=width, title=title, polarity=polarity)
    with drawing(run, runs_dir, checkpoint, out, save_arrays, animate=animate) as (model, save):
        from vaectl.pictures import views as look

        picture = partial(
            look.sample,
            count=count,
            temperature=temperature,
            draw=draw,
            label=label,
            seed=seed,
            origin=origin,
        )
        save(look.over_epochs(model, picture, looks) if animate else picture(model, style=looks))


@app.command(rich_help_panel=LOOK)
def manifold(
    run: Run,
    grid: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help="Images per row and column; by default 20, or as many as are large enough.",
            show_default=False,
        ),
    ] = None,
    limits: Annotated[
        str,
        typer.Option(
            "--range",
            metavar="RANGE",
            help="prior (-3 to 3, or where 99 % of its codes lie), posterior (where 99 % of the "
            "codes of the validation images lie), a limit as 2.5, or LOW,HIGH as -1,4; "
            "LOW,HIGH,LOW,HIGH for both dimensions.",
            autocompletion=_ranges,
        ),
    ] = "prior",
    spacing: Annotated[
        Literal["linear", "quantile"],
        typer.Option(help="Equal distances, or equal probabilities."),
    ] = "linear",
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
    label: Label = None,
    checkpoint: Checkpoint = "best",
    seed: Seed = 0,
    title: Title = None,
    width: Width = None,
    style: Theme = "paper",
    polarity: Polarity = "auto",
    animate: Animate = False,
    out: AnimationOut = None,
    save_arrays: SaveArrays = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Show a plane of the latent space, decoded (Fig. 5).

    Example: vaectl manifold latest --grid 15 --spacing quantile
    """
    from vaectl.pictures import options
    from vaectl.pictures import style as styles

    looks = styles.parse(theme=style, width=width, title=title, polarity=polarity)
    ranges = options.parse_range(limits)
    options.check_dims(dims)
    with drawing(run, runs_dir, checkpoint, out, save_arrays, animate=animate) as (model, save):
        from vaectl.pictures import views as look

        plane = look.plane(
            model,
            grid=grid,
            ranges=ranges,
            spacing=spacing,
            dims=dims,
            seed=seed,
            style=looks,
        )
        picture = partial(look.manifold, where=plane, anchor=anchor, label=label)
        save(look.over_epochs(model, picture, looks) if animate else picture(model, style=looks))


@app.command(rich_help_panel=LOOK)
def morph(
    run: Run,
    rows: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help="Rows, with one morph each; by default 12, or as many as are large enough.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=100,
            help="Images per row; by default 13, or as many as are large enough.",
            show_default=False,
        ),
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="I:J",
            help="Morph from test image I to test image J; repeatable; by default a chain of "
            "images of different classes.",
            show_default=False,
        ),
    ] = None,
    space: Annotated[
        Literal["both", "latent", "image"], typer.Option(help="The space in which to morph.")
    ] = "both",
    path: Annotated[
        Literal["linear", "spherical"], typer.Option(help="The path through the latent space.")
    ] = "linear",
    from_mean: Annotated[
        bool, typer.Option("--from-mean", help="Use posterior means instead of posterior samples.")
    ] = False,
    classes: Annotated[
        Literal["change", "keep"],
        typer.Option(
            help="Whether the class that a conditional model is told changes along a row."
        ),
    ] = "change",
    checkpoint: Checkpoint = "best",
    seed: Seed = 0,
    title: Title = None,
    width: Width = None,
    style: Theme = "paper",
    polarity: Polarity = "auto",
    animate: AnimateRows = False,
    out: AnimationOut = None,
    save_arrays: SaveArrays = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Morph images into others, in image space and in latent space (Fig. 6).

    Example: vaectl morph latest --pairs 0:1 --pairs 1:2 --path spherical
    """
    from vaectl.pictures import options
    from vaectl.pictures import style as styles

    looks = styles.parse(theme=style, width=width, title=title, polarity=polarity)
    chosen = options.parse_pairs(pairs or ())
    with drawing(run, runs_dir, checkpoint, out, save_arrays, animate=animate) as (model, save):
        from vaectl.pictures import views as look

        view = look.morph(
            model,
            rows=rows,
            steps=steps,
            pairs=chosen,
            space=space,
            path=path,
            from_mean=from_mean,
            classes=classes,
            seed=seed,
            style=looks,
        )
        save(look.along_rows(model, view, looks) if animate else view)


@app.command(rich_help_panel=LOOK)
def reconstruct(
    run: Run,
    count: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="The number of images; by default 20, or as many as there is room for.",
            show_default=False,
        ),
    ] = None,
    split: Split = "test",
    checkpoint: Checkpoint = "best",
    seed: Seed = 0,
    title: Title = None,
    width: Width = None,
    style: Theme = "paper",
    polarity: Polarity = "auto",
    out: Out = None,
    save_arrays: SaveArrays = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Show images beside their reconstructions, with the difference and the ELBO of each.

    Example: vaectl reconstruct latest --count 30
    """
    from vaectl.pictures import style as styles

    looks = styles.parse(theme=style, width=width, title=title, polarity=polarity)
    with drawing(run, runs_dir, checkpoint, out, save_arrays) as (model, save):
        from vaectl.pictures import views as look

        save(look.reconstruct(model, count=count, split_name=split, seed=seed, style=looks))


@app.command(rich_help_panel=LOOK)
def inspect(
    run: Run,
    split: Split = "test",
    checkpoint: Checkpoint = "best",
    seed: Seed = 0,
    title: Title = None,
    width: Width = None,
    style: Theme = "paper",
    out: Out = None,
    save_arrays: SaveArrays = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Show the latent space: KL by dimension, posterior means, aggregate posterior and prior.

    Example: vaectl inspect latest
    """
    from vaectl.pictures import style as styles

    looks = styles.parse(theme=style, width=width, title=title)
    with drawing(run, runs_dir, checkpoint, out, save_arrays) as (model, save):
        from vaectl.pictures import views as look

        save(look.inspect(model, split_name=split, seed=seed, style=looks))


@app.command(rich_help_panel=LOOK)
def curves(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|COMPARISON",
            help="Paths or names in --runs-dir, or latest for the last run.",
        ),
    ],
    term: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Draw this number only, elbo say; repeatable; by default all, side by side.",
            show_default=False,
        ),
    ] = None,
    first: Annotated[
        int, typer.Option("--from", min=1, metavar="EPOCH", help="The first epoch to draw.")
    ] = 1,
    by: Annotated[Literal["epoch", "seconds"], typer.Option(help="The horizontal axis.")] = "epoch",
    title: Title = None,
    width: Width = None,
    style: Theme = "paper",
    out: Out = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Draw ELBO, KL and NLL by epoch, of one run or of several in the same axes (Fig. 3).

    Example: vaectl curves adam sgd --from 5 --width column --out curves.pdf
    """
    from vaectl.cli.busy import busy
    from vaectl.pictures import options
    from vaectl.pictures import style as styles
    from vaectl.runs.find import find_all

    looks = styles.parse(theme=style, width=width, title=title)
    options.check_files(out, animate=None)
    named = [each for run in runs for each in find_all(run, runs_dir)]
    found = list({each.path.resolve(): each for each in named}.values())
    if out is None and len(found) > 1:
        raise ConfigError(
            f"curves of {len(found)} runs belong to none of them",
            hint="say where they go: --out curves.png",
        )
    names = list(dict.fromkeys(term or []))
    options.check_curves(found, names, first)
    with busy("drawing"):
        from vaectl.comparison.order import order_of
        from vaectl.pictures import figures
        from vaectl.runs.directory import save_figure

        order = order_of(run.path for run in found)
        figure = figures.curves_of(found, names, by=by, first=first, order=order, style=looks)
        if out is None:
            name = names[0] if len(names) == 1 else "curves"
            (out,) = found[0].write_figure(name, figure, ["png"])
        else:
            save_figure(out, figure)
    show(out)
