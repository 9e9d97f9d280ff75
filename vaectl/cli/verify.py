"""`vaectl verify`: a published result beside ours."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaectl.base.terminal import show
from vaectl.cli.app import LOOK, AsJson, Quiet, RunsDir, app
from vaectl.cli.looking import Checkpoint, Seed, load

if TYPE_CHECKING:
    from vaectl.config.published import Published, Verdict


@app.command(rich_help_panel=LOOK)
def verify(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN|CONFIG",
            help="A run of such a configuration: a path, a name, or latest; or the YAML file, "
            "to show the value that was measured before.",
            show_default=False,
        ),
    ],
    checkpoint: Checkpoint = "latest",
    seed: Seed = 0,
    runs_dir: RunsDir = Path("runs"),
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare a result of a paper with ours, with a verdict.

    A configuration with a section `published` repeats an experiment of a paper; see
    configs/published. For a run, the value is estimated now, in the way of the paper.

    Example: vaectl verify configs/published/burda-vae-1.yaml
    Example: vaectl verify latest
    """
    if what.endswith((".yaml", ".yml")):
        _of_file(Path(what), as_json)
    else:
        _of_run(what, checkpoint, seed, runs_dir, quiet=quiet, as_json=as_json)


def _of_file(file: Path, as_json: bool) -> None:
    """Show the value of ours that a configuration records."""
    import shlex

    from vaectl.config import reading
    from vaectl.config.published import Verdict

    settings = reading.load(file)
    published = _published(settings.published, f"{file}")
    ours = published.ours
    if ours is None:
        how = f"not run yet: vaectl train {shlex.quote(str(file))}, then vaectl verify latest"
        _show(published, Verdict(published.value), [how], as_json)
        return
    verdict = Verdict(published.value, ours.value, ours.standard_error)
    _show(published, verdict, [f"by {ours.command}"], as_json)


def _of_run(
    name: str, checkpoint: str, seed: int, runs_dir: Path, *, quiet: bool, as_json: bool
) -> None:
    """Estimate the value of a run, and compare it."""
    from vaectl.cli.busy import busy
    from vaectl.config.published import Verdict
    from vaectl.runs.find import find

    found = find(name, runs_dir)
    published = _published(found.read_config().published, f"{found.path}")
    with busy(f"loading {found.name}", quiet=quiet) as tell:
        from vaectl.evaluation import assess as assessment

        model = load(found, checkpoint)
        samples = published.importance_samples if published.quantity == "log_likelihood" else 0
        record = found.read_record()
        result = assessment.assess(
            model,
            published.split,
            samples=1,
            importance_samples=samples,
            seed=seed,
            watch=partial(tell, f"evaluating {model.title}"),
        )
    ours = result.log_likelihood or result.elbo
    verdict = Verdict(published.value, ours.mean, ours.standard_error)
    where = result.where if record.imported else f"{result.where} of {record.epochs}"
    facts = [f"{found.name}, {where}, {result.binarization}"]
    if record.status not in ("finished", "imported"):
        facts.append(f"the run is {record.status}, at epoch {record.epoch} of {record.epochs}")
    _show(published, verdict, facts, as_json)


def _published(found: "Published | None", where: str) -> "Published":
    """Return the section of a configuration."""
    from vaectl.base.errors import ConfigError

    if found is None:
        raise ConfigError(
            f"{where}: its configuration has no section published",
            hint="configs/published has some; vaectl config schema describes the section",
        )
    return found


def _show(published: "Published", verdict: "Verdict", facts: list[str], as_json: bool) -> None:
    import json

    if as_json:
        values = {
            **published.model_dump(mode="json", exclude={"ours"}),
            "ours": verdict.ours,
            "standard_error": verdict.standard_error,
            "difference": verdict.difference,
            "verdict": verdict.word,
            "facts": facts,
        }
        show(json.dumps(values))
        return
    from vaectl.cli.tables.evaluation import show_verdict

    show(f"{published.paper}: {published.where}")
    show_verdict(published.measure, verdict)
    for fact in facts:
        show(fact)
    if published.differs:
        show(f"differs from the paper: {published.differs}")
    show(str(verdict))
