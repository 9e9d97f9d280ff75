"""`vaectl diagnose`: where the nats go, and what to change."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vaectl.base.terminal import say, show
from vaectl.cli.app import LOOK, AsJson, Quiet, RunsDir, app
from vaectl.cli.looking import (
    Checkpoint,
    Out,
    Run,
    Seed,
    Theme,
    Title,
    Width,
    find_to_draw,
    load,
)


@app.command(rich_help_panel=LOOK)
def diagnose(
    run: Run,
    split: Annotated[
        Literal["validation", "test"], typer.Option(help="The held-out images.")
    ] = "test",
    images: Annotated[
        int,
        typer.Option(
            min=4, max=100_000, help="Images of each split whose log p(x) and gaps are estimated."
        ),
    ] = 100,
    chains: Annotated[int, typer.Option(min=1, max=10_000, help="Chains for each image.")] = 8,
    temperatures: Annotated[
        int, typer.Option(min=1, max=10**6, help="Temperatures of the annealing.")
    ] = 200,
    start: Annotated[
        Literal["auto", "prior", "posterior"],
        typer.Option(
            help="Anneal from the prior, or from the encoder's posterior; auto: whichever is more "
            "precise on simulated images."
        ),
    ] = "auto",
    importance_samples: Annotated[
        int, typer.Option(min=1, max=10**6, help="K of IW-K, to compare.")
    ] = 5000,
    prior_samples: Annotated[
        int,
        typer.Option(
            min=0, max=100_000, help="Samples from the prior to compare with the data; 0: none."
        ),
    ] = 1000,
    checkpoint: Checkpoint = "best",
    seed: Seed = 0,
    title: Title = None,
    width: Width = None,
    style: Theme = "paper",
    out: Out = None,
    runs_dir: RunsDir = Path("runs"),
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Find where the nats go: log p(x), the gaps to the ELBO, the prior, overfitting, and advice.

    log p(x) comes from annealed importance sampling. The gap between it and the ELBO has two parts:
    the encoder does not give each image its best Gaussian posterior (amortization), and no Gaussian
    is the true posterior (approximation). With the default options it takes about two minutes of
    processor time.

    Results are saved after every 50 images: if the diagnosis is interrupted, the same command
    continues after the last saved ones.

    Example: vaectl diagnose latest
    Example: vaectl diagnose latest --images 500 --temperatures 1000 --out nats.pdf
    """
    from vaectl.base.interrupts import leaving
    from vaectl.cli.busy import busy
    from vaectl.cli.tables.evaluation import show_diagnosis
    from vaectl.pictures import style as styles

    looks = styles.parse(theme=style, width=width, title=title)
    found = find_to_draw(run, runs_dir, out)
    with busy(f"loading {found.name}", quiet=quiet) as tell:
        from vaectl.evaluation import diagnose as diagnosing
        from vaectl.evaluation.origin import origin_of
        from vaectl.evaluation.work import Plan
        from vaectl.pictures.waterfall import waterfall
        from vaectl.runs.directory import save_figure
        from vaectl.runs.unfinished import Unfinished

        model = load(found, checkpoint)
        plan = Plan(
            images=images,
            chains=chains,
            temperatures=temperatures,
            importance_samples=importance_samples,
            prior_samples=prior_samples,
            origin=origin_of(start),
            seed=seed,
        )
        inputs = diagnosing.inputs(model, split, plan)
        finished = Unfinished(model.rundir, inputs, say)
        with leaving(lambda: _kept(len(finished))):
            result = diagnosing.diagnose(model, split, plan, tell, finished)
    # print before writing to a disk that may be full
    if as_json:
        show(result.model_dump_json())
    else:
        show_diagnosis(result)
    figure = waterfall(result, title=model.title, style=looks)
    if out is not None:  # first: the run may not be writable
        save_figure(out, figure)
    path = model.rundir.write_diagnosis(result)
    if out is None:
        (out,) = model.rundir.write_figure("diagnosis", figure, ["png"])
    finished.remove()
    if not as_json:
        show(path)
        show(out)


def _kept(parts: int) -> str:
    """Return the end of the message after an interrupt."""
    if not parts:
        return "no part was finished, so the same command starts again"
    return f"parts that are finished: {parts}\ntry:   the same command, which continues after them"
