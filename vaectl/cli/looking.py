"""Options shared by the commands that show a trained model, and functions that find and load it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vaectl.base.errors import ConfigError
from vaectl.base.nearest import did_you_mean
from vaectl.base.terminal import say, show
from vaectl.cli.app import OUTPUT

if TYPE_CHECKING:
    from vaectl.cli.busy import Sign
    from vaectl.pictures.views import View
    from vaectl.runs.directory import RunDir
    from vaectl.runs.trained import Trained

LOOKS = "Appearance"

Run = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A path, a name in --runs-dir, latest, or STUDY/best."),
]


def _checkpoint(wanted: str) -> str:
    """Refuse a text that is not the name of a checkpoint."""
    if wanted not in ("best", "latest") and not wanted.isdecimal():
        raise ConfigError(
            f"--checkpoint {wanted}: no checkpoint{did_you_mean(wanted, ['best', 'latest'])}",
            hint="choose best, latest, or the number of an epoch",
        )
    return wanted


Checkpoint = Annotated[
    str,
    typer.Option(
        metavar="CHECKPOINT",
        help="best, latest, or the number of an epoch.",
        callback=_checkpoint,
    ),
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
AnimationOut = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write to this .png, .svg or .pdf, an animation to .gif or .mp4; by default to a PNG "
        "or GIF in the run's figures/.",
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


def _widths(incomplete: str) -> list[str]:
    """Complete the name of a width."""
    from vaectl.pictures.style import WIDTHS

    return [name for name in WIDTHS if name.startswith(incomplete)]


Theme = Annotated[
    Literal["paper", "slides", "dark"],
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
        autocompletion=_widths,
        show_default=False,
        rich_help_panel=LOOKS,
    ),
]
Title = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Replace the heading, above the line that explains the numbers; none removes both.",
        show_default=False,
        rich_help_panel=LOOKS,
    ),
]
Polarity = Annotated[
    Literal["auto", "ink", "light"],
    typer.Option(
        help="Grey images: ink draws 1 as black on white, light draws 1 as white. auto draws "
        "thin bright lines on black, digits say, as ink, and all else as light. RGB images keep "
        "their colours.",
        rich_help_panel=LOOKS,
    ),
]
Animate = Annotated[
    bool,
    typer.Option(
        "--animate",
        help="Animate over the epochs of all checkpoints that the run keeps: a GIF, or MP4 by "
        "--out FILE.mp4.",
        rich_help_panel=LOOKS,
    ),
]
AnimateRows = Annotated[
    bool,
    typer.Option(
        "--animate",
        help="Animate along the rows: a GIF, or MP4 by --out FILE.mp4.",
        rich_help_panel=LOOKS,
    ),
]


Split = Annotated[
    Literal["train", "validation", "test"], typer.Option(help="The split of the data.")
]


def find_to_draw(
    run: str,
    runs_dir: Path,
    out: Path | None = None,
    arrays: Path | None = None,
    *,
    animate: bool | None = None,
) -> "RunDir":
    """Check the files to write, then find a run, without loading anything slow."""
    from vaectl.pictures import options
    from vaectl.runs.find import find

    options.check_files(out, arrays, animate=animate)
    return find(run, runs_dir)


def load(run: "RunDir", checkpoint: str) -> "Trained":
    """Load the model of a run, and print its warnings."""
    from vaectl.runs import trained

    model = trained.load(run, checkpoint)
    for warning in model.warnings:
        say(f"warning: {warning}")
    return model


@contextmanager
def drawing(
    run: str,
    runs_dir: Path,
    checkpoint: str,
    out: Path | None,
    arrays: Path | None,
    *,
    animate: bool | None = None,
) -> Iterator[tuple["Trained", Callable[["View"], None]]]:
    """Load the model of a run; yield it, and the function to save its picture with.

    The path of the picture is printed at the end.
    """
    from vaectl.cli.busy import busy

    found = find_to_draw(run, runs_dir, out, arrays, animate=animate)
    paths: list[Path] = []
    with busy(f"loading {found.name}") as tell:
        from vaectl.pictures import views

        model = load(found, checkpoint)
        tell("drawing")
        yield model, lambda view: paths.append(views.save(model, _counted(view, tell), out, arrays))
    show(*paths)


def _counted(view: "View", tell: "Sign") -> "View":
    """Count the figures of an animation while they are drawn."""
    from vaectl.cli import busy
    from vaectl.pictures.animation import Animation

    moving = view.figure
    if not isinstance(moving, Animation):
        return view
    figures = busy.counted(moving.figures, moving.total, "drawing", tell)
    return view._replace(figure=moving._replace(figures=figures))
