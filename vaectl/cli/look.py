"""Commands that draw a trained model."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaectl.base.terminal import show
from vaectl.cli import plugs
from vaectl.cli.app import LOOK, OUTPUT, Debug, RunsDir, app

if TYPE_CHECKING:
    from vaectl.pictures.views import View

LOOKS = "How it looks"

Run = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A path, a name in --runs-dir, latest, or STUDY/best."),
]
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
FilmOut = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write to this .png, .svg or .pdf, a film to .gif or .mp4; by default to a PNG or GIF "
        "in the run's figures/.",
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


class Theme(StrEnum):
    """Colours and sizes that fit each other."""

    paper = "paper"
    slides = "slides"
    dark = "dark"


class Polarity(StrEnum):
    """How grey images are drawn."""

    auto = "auto"
    ink = "ink"
    light = "light"


ThemeChoice = Annotated[
    Theme,
    typer.Option(
        "--style",
        help="Sizes and colours: for paper, for slides, or for slides with a dark background.",
        rich_help_panel=LOOKS,
    ),
]
Width = Annotated[
    str | None,
    typer.Option(
        metavar="MM",
        help="The width in mm, or column (85), page (175), slide (254); by default what fits.",
        show_default=False,
        rich_help_panel=LOOKS,
    ),
]
Title = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="A heading of your own, above what the figure says of its numbers; none for neither.",
        show_default=False,
        rich_help_panel=LOOKS,
    ),
]
PolarityChoice = Annotated[
    Polarity,
    typer.Option(
        help="Grey images: ink draws 1 as black on white, light draws 1 as white. auto draws "
        "drawings on a black background, digits say, as ink, and all others as light. RGB images "
        "keep their colours.",
        rich_help_panel=LOOKS,
    ),
]
Animate = Annotated[
    bool,
    typer.Option(
        "--animate",
        help="A film over the epochs of all checkpoints that the run keeps: as GIF, or as MP4 by "
        "--out FILE.mp4.",
        rich_help_panel=LOOKS,
    ),
]
AnimateRows = Annotated[
    bool,
    typer.Option(
        "--animate",
        help="A film that goes along the rows: as GIF, or as MP4 by --out FILE.mp4.",
        rich_help_panel=LOOKS,
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


class By(StrEnum):
    """The horizontal axis of curves."""

    epoch = "epoch"
    seconds = "seconds"


class Way(StrEnum):
    """The path between two codes."""

    linear = "linear"
    spherical = "spherical"


def _with_bar(view: "View") -> "View":
    """Count the figures of a film while they are drawn."""
    from vaectl.cli import progress
    from vaectl.pictures.film import Film

    film = view.figure
    if not isinstance(film, Film):
        return view
    figures = progress.counted(film.figures, film.total, "drawing")
    return view._replace(figure=film._replace(figures=figures))


@app.command(rich_help_panel=LOOK)
def sample(
    run: Run,
    count: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            help="The number of samples; by default 100, or 98 on slides.",
            show_default=False,
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option(min=0, max=100, help="The standard deviation of the codes.")
    ] = 1.0,
    draw: Annotated[Draw, typer.Option(help="Means of the pixels, or binary draws.")] = Draw.mean,
    checkpoint: Checkpoint = "best",
    seed: Seed = 0,
    title: Title = None,
    width: Width = None,
    style: ThemeChoice = Theme.paper,
    polarity: PolarityChoice = Polarity.auto,
    animate: Animate = False,
    out: FilmOut = None,
    save_arrays: SaveArrays = None,
    runs_dir: RunsDir = Path("runs"),
    plugin: plugs.Plugins = None,  # noqa: ARG001  # its callback acts
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """Show images that the model makes up: codes from the prior, decoded (Fig. 4).

    Example: vaectl sample latest --count 64 --temperature 0.8
    """
    from vaectl.pictures import style as styles
    from vaectl.pictures import views as look

    looks = styles.parse(theme=style.value, width=width, title=title, polarity=polarity.value)
    model = look.open_run(run, runs_dir, checkpoint, out, save_arrays, animate=animate)
    picture = partial(look.sample, count=count, temperature=temperature, draw=draw.value, seed=seed)
    view = look.over_epochs(model, picture, looks) if animate else picture(model, style=looks)
    show(look.save(model, _with_bar(view), out, save_arrays))


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
            help="prior (-3 to 3), posterior (where 99 % of the codes of the validation images "
            "lie), a limit as 2.5, or LOW,HIGH as -1,4; LOW,HIGH,LOW,HIGH for both dimensions.",
        ),
    ] = "prior",
    spacing: Annotated[
        Spacing, typer.Option(help="Equal distances, or equal probabilities.")
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
    title: Title = None,
    width: Width = None,
    style: ThemeChoice = Theme.paper,
    polarity: PolarityChoice = Polarity.auto,
    animate: Animate = False,
    out: FilmOut = None,
    save_arrays: SaveArrays = None,
    runs_dir: RunsDir = Path("runs"),
    plugin: plugs.Plugins = None,  # noqa: ARG001  # its callback acts
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """Show a plane of the latent space, decoded (Fig. 5).

    Example: vaectl manifold latest --grid 15 --spacing quantile
    """
    from vaectl.pictures import style as styles
    from vaectl.pictures import views as look

    looks = styles.parse(theme=style.value, width=width, title=title, polarity=polarity.value)
    ranges = look.parse_range(limits)
    model = look.open_run(run, runs_dir, checkpoint, out, save_arrays, animate=animate)
    plane = look.plane(
        model, grid=grid, ranges=ranges, spacing=spacing.value, dims=dims, style=looks
    )
    picture = partial(look.manifold, where=plane, anchor=anchor)
    view = look.over_epochs(model, picture, looks) if animate else picture(model, style=looks)
    show(look.save(model, _with_bar(view), out, save_arrays))


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
    space: Annotated[Space, typer.Option(help="The space in which to morph.")] = Space.both,
    path: Annotated[Way, typer.Option(help="The path through the latent space.")] = Way.linear,
    from_mean: Annotated[
        bool, typer.Option("--from-mean", help="Use posterior means instead of posterior samples.")
    ] = False,
    checkpoint: Checkpoint = "best",
    seed: Seed = 0,
    title: Title = None,
    width: Width = None,
    style: ThemeChoice = Theme.paper,
    polarity: PolarityChoice = Polarity.auto,
    animate: AnimateRows = False,
    out: FilmOut = None,
    save_arrays: SaveArrays = None,
    runs_dir: RunsDir = Path("runs"),
    plugin: plugs.Plugins = None,  # noqa: ARG001  # its callback acts
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """Morph images into others, in image space and in latent space (Fig. 6).

    Example: vaectl morph latest --pairs 0:1 --pairs 1:2 --path spherical
    """
    from vaectl.pictures import style as styles
    from vaectl.pictures import views as look

    looks = styles.parse(theme=style.value, width=width, title=title, polarity=polarity.value)
    chosen = look.parse_pairs(pairs or ())
    model = look.open_run(run, runs_dir, checkpoint, out, save_arrays, animate=animate)
    view = look.morph(
        model,
        rows=rows,
        steps=steps,
        pairs=chosen,
        space=space.value,
        path=path.value,
        from_mean=from_mean,
        seed=seed,
        style=looks,
    )
    if animate:
        view = look.along_rows(model, view, looks)
    show(look.save(model, _with_bar(view), out, save_arrays))


@app.command(rich_help_panel=LOOK)
def reconstruct(
    run: Run,
    count: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="The number of images; by default 20, or 10 on slides.",
            show_default=False,
        ),
    ] = None,
    split: SplitChoice = Split.test,
    checkpoint: Checkpoint = "best",
    seed: Seed = 0,
    title: Title = None,
    width: Width = None,
    style: ThemeChoice = Theme.paper,
    polarity: PolarityChoice = Polarity.auto,
    out: Out = None,
    save_arrays: SaveArrays = None,
    runs_dir: RunsDir = Path("runs"),
    plugin: plugs.Plugins = None,  # noqa: ARG001  # its callback acts
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """Show images beside their reconstructions, with the difference and the ELBO of each.

    Example: vaectl reconstruct latest --count 30
    """
    from vaectl.pictures import style as styles
    from vaectl.pictures import views as look

    looks = styles.parse(theme=style.value, width=width, title=title, polarity=polarity.value)
    model = look.open_run(run, runs_dir, checkpoint, out, save_arrays)
    view = look.reconstruct(model, count=count, split_name=split.value, seed=seed, style=looks)
    show(look.save(model, view, out, save_arrays))


@app.command(rich_help_panel=LOOK)
def inspect(
    run: Run,
    split: SplitChoice = Split.test,
    checkpoint: Checkpoint = "best",
    seed: Seed = 0,
    title: Title = None,
    width: Width = None,
    style: ThemeChoice = Theme.paper,
    out: Out = None,
    save_arrays: SaveArrays = None,
    runs_dir: RunsDir = Path("runs"),
    plugin: plugs.Plugins = None,  # noqa: ARG001  # its callback acts
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """Show the latent space: KL by dimension, posterior means, aggregate posterior and prior.

    Example: vaectl inspect latest
    """
    from vaectl.pictures import style as styles
    from vaectl.pictures import views as look

    looks = styles.parse(theme=style.value, width=width, title=title)
    model = look.open_run(run, runs_dir, checkpoint, out, save_arrays)
    view = look.inspect(model, split_name=split.value, seed=seed, style=looks)
    show(look.save(model, view, out, save_arrays))


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
    by: Annotated[By, typer.Option(help="The horizontal axis.")] = By.epoch,
    title: Title = None,
    width: Width = None,
    style: ThemeChoice = Theme.paper,
    out: Out = None,
    runs_dir: RunsDir = Path("runs"),
    plugin: plugs.Plugins = None,  # noqa: ARG001  # its callback acts
    debug: Debug = False,  # noqa: ARG001  # its callback acts
) -> None:
    """Draw ELBO, KL and NLL by epoch, of one run or of several in the same axes (Fig. 3).

    Example: vaectl curves adam sgd --from 5 --width column --out curves.pdf
    """
    from vaectl.base.errors import ConfigError
    from vaectl.comparison.order import order_of
    from vaectl.pictures import canvas, figures
    from vaectl.pictures import style as styles
    from vaectl.runs.directory import save_figure
    from vaectl.runs.find import find_all

    looks = styles.parse(theme=style.value, width=width, title=title)
    if out is not None:
        canvas.check_format(out)
    found = [each for run in runs for each in find_all(run, runs_dir)]
    if out is None and len(found) > 1:
        raise ConfigError(
            f"curves of {len(found)} runs belong to none of them",
            hint="say where they go: --out curves.png",
        )
    names = term or []
    order = order_of(run.path for run in found)
    figure = figures.curves_of(found, names, by=by.value, first=first, order=order, style=looks)
    if out is None:
        name = names[0] if len(names) == 1 else "curves"
        (out,) = found[0].write_figure(name, figure, ["png"])
    else:
        save_figure(out, figure)
    show(out)
