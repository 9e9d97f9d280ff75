"""`vaectl evaluate`: likelihoods with standard errors."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from vaectl.base.errors import ConfigError
from vaectl.base.terminal import say, show
from vaectl.cli.app import LOOK, AsJson, Quiet, RunsDir, app
from vaectl.cli.looking import Checkpoint, Run, Seed, Split, load


@app.command(rich_help_panel=LOOK)
def evaluate(
    run: Run,
    split: Split = "test",
    samples: Annotated[
        int, typer.Option(min=1, max=1000, help="L, the samples of z of the ELBO.")
    ] = 1,
    importance_samples: Annotated[
        int,
        typer.Option(
            min=0, max=10**6, help="K, the samples of z of the bound IW-K on log p(x); 0: no bound."
        ),
    ] = 100,
    precision: Annotated[
        Literal["float32", "bfloat16"],
        typer.Option(
            help="Precision of the products of the bound IW-K: bfloat16 rounds them, and is faster "
            "on some devices. Everything else is computed in float32."
        ),
    ] = "float32",
    prior_samples: Annotated[
        int,
        typer.Option(
            min=0,
            max=100_000,
            help="Samples from the prior to compare with the data; 0: none.",
        ),
    ] = 1000,
    checkpoint: Checkpoint = "best",
    seed: Seed = 0,
    runs_dir: RunsDir = Path("runs"),
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Estimate ELBO, KL, NLL and log p(x) of a split, with standard errors over images.

    Numbers are in nats per image; probabilities of bytes also in bits per dimension.

    It also counts samples from the prior that look broken: their ink (the sum of the pixels) or
    their distance to the nearest training image is as extreme as in about 1 % of real images. The
    share of held-out images with such values is printed too. Blurred samples are not detected.

    Example: vaectl evaluate latest --importance-samples 5000
    Example: vaectl evaluate latest --importance-samples 5000 --precision bfloat16
    Example: vaectl evaluate digits-5k-z20-adam-s0 --split validation --checkpoint latest --json
    """
    from vaectl.cli.busy import busy
    from vaectl.cli.tables.evaluation import show_evaluation
    from vaectl.config.meaning import notes
    from vaectl.runs.find import find

    if precision == "bfloat16" and not importance_samples:
        raise ConfigError(
            "--precision bfloat16: there is no bound whose products could be rounded",
            hint="leave it out, or ask for a bound by --importance-samples 100",
        )
    found = find(run, runs_dir)
    with busy(f"loading {found.name}", quiet=quiet) as tell:
        from vaectl.evaluation import assess as assessment

        model = load(found, checkpoint)
        result = assessment.assess(
            model,
            split,
            samples=samples,
            importance_samples=importance_samples,
            seed=seed,
            precision=precision,
            prior_samples=prior_samples,
            watch=partial(tell, f"evaluating {model.title}"),
        )
    if not quiet:
        for note in notes(model.settings):
            say(f"note: {note}")
    # print before writing to a disk that may be full
    if as_json:
        show(result.model_dump_json())
    else:
        show_evaluation(result)
    path = model.rundir.write_evaluation(result)
    if not as_json:
        show(path)
