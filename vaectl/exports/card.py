"""Model card: a page of Markdown on what a model is, how good it is, and what is not known.

Its parts follow Mitchell et al. 2019, "Model Cards for Model Reporting".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, final

from vaectl.config import documents
from vaectl.config.meaning import meaning
from vaectl.exports.base import FOLDER, Export, Files
from vaectl.objectives.base import label
from vaectl.runs.belongings import PNG
from vaectl.version import VERSION

if TYPE_CHECKING:
    from vaectl.runs.record import Evaluation, Record
    from vaectl.runs.trained import Trained

SAMPLES = 36
CURVES = "card-curves.png"
_SPECIAL = re.compile(r"[\\`*<>\[\]|~&]|(?<!\w)_|_(?!\w)")
"""Characters that are more than text in Markdown."""


@final
class Verbatim(str):
    """Text for a block of code, in which nothing is escaped."""

    __slots__ = ()


class Card(Export, name="card"):
    """A page of Markdown, and its pictures: samples and, of a run that trained here, the curves."""

    leaves: ClassVar[Mapping[str, Mapping[str, bytes]]] = {
        FOLDER: {r"card\.md": rb"<!-- a model card by vaectl", r"card-(curves|samples)\.png": PNG}
    }

    def write(self, model: Trained) -> Files:
        """Return the page and its pictures."""
        from jinja2 import Environment, PackageLoader, StrictUndefined

        record, settings = model.rundir.read_record(), model.settings
        here, best = model.checkpoint, record.best
        pictures = _pictures(model, record)
        environment = Environment(
            loader=PackageLoader("vaectl.exports", "."),
            autoescape=False,  # noqa: S701  # Markdown, not HTML: see `escaped`
            finalize=escaped,
            keep_trailing_newline=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        page = environment.get_template("card.md.j2").render(
            name=model.rundir.name,
            checkpoint=here,
            chosen=best is not None and (here.epoch, here.beyond) == (best.epoch, 0),
            record=record,
            settings=settings,
            likelihood=settings.likelihood.chosen,
            summary=settings.model.chosen.summary(model.code_size),
            shape=model.image_shape,
            told=model.vae.classes,
            pixels=meaning(settings),
            parameters=sum(leaf.size for leaf in _leaves(model)),
            trained=CURVES in pictures,
            count=SAMPLES,
            evaluations=_evaluations(model),
            label=label,
            warnings=model.warnings,
            version=VERSION,
            whole=Verbatim(documents.dump(settings)),
        )
        return {**pictures, "card.md": page.encode()}


def _pictures(model: Trained, record: Record) -> Files:
    """Return samples and, if the run trained here, the curves."""
    from vaectl.pictures import canvas, figures, sheets
    from vaectl.pictures.style import DEFAULT

    style = DEFAULT.with_polarity(drawings=model.drawings)
    panel = sheets.Panel(sheets.near_square(model.sample(SAMPLES)))
    drawn = {"card-samples.png": sheets.sheet([[panel]], title=model.title, style=style)}
    if rows := model.rundir.read_metrics():
        facts = f"{record.metrics['estimator']}, {record.meaning}"
        drawn[CURVES] = figures.curves(rows, title=model.rundir.name, facts=facts)
    return {name: canvas.png(figure) for name, figure in drawn.items()}


def escaped(value: object) -> object:
    """Return a value as text that Markdown shows as it is; names may come from somebody else."""
    if isinstance(value, str) and not isinstance(value, Verbatim):
        return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", re.sub(r"\s", " ", value))
    return value


def _leaves(model: Trained) -> list[Any]:
    """Return the parameters of the network, without its other state."""
    import jax

    learned, _ = model.vae.network(model.variables).split()
    return jax.tree.leaves(learned)


def _evaluations(model: Trained) -> list[Evaluation]:
    """Return the evaluations of this checkpoint."""
    here = model.checkpoint
    return [
        found
        for found in model.rundir.read_evaluations().values()
        if (here.epoch if found.step is None else here.step)
        == (found.epoch if found.step is None else found.step)
    ]
