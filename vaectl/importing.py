"""Import a model: from a file with arrays to a run that can be sampled, looked at and evaluated.

The file may come from anybody. It is read up to a size, holds numbers and text but no code, and its
arrays are compared with those of the network that the configuration describes before anything is
made. The record says that the run was imported; it has no training, no metrics and no best epoch.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vaectl import config, data
from vaectl.base import devices
from vaectl.base.errors import ConfigError, DataError, RunError, first_line
from vaectl.base.files import read
from vaectl.config import documents, reading, schema
from vaectl.config.meaning import dimensions, meaning
from vaectl.config.naming import network_name_of
from vaectl.exports.base import Facts, Portable, form_of, named, unreadable, with_arrays
from vaectl.runs import environment
from vaectl.runs import find as runs
from vaectl.runs import resume as resumption
from vaectl.runs.checkpoints import Checkpoints, check_place
from vaectl.runs.directory import RunDir, missing_plugs
from vaectl.runs.names import check_name
from vaectl.runs.quiet import quiet_orbax
from vaectl.runs.record import DataFacts, Imported, Record, data_facts, now
from vaectl.runs.saved import Info
from vaectl.training import compiled
from vaectl.training.program import Program

MOST_BYTES = 2**31
"""The largest file that is read."""
_SHOWN = 8
"""The most arrays that a message lists."""


@devices.pinned()
def bring(
    file: Path,
    *,
    config_file: Path | None = None,
    assignments: Sequence[str] = (),
    name: str | None = None,
    runs_dir: Path = Path("runs"),
    force: bool = False,
) -> RunDir:
    """Make a run of a file with the arrays of a model.

    Args:
        file: the file; its suffix tells its format.
        config_file: a configuration in YAML; None for the configuration inside the file.
        assignments: `dotted.key=value`, other values for some keys.
        name: the name of the run directory; None for one made from the settings.
        runs_dir: where it goes.
        force: whether an existing run of that name is replaced.

    Raises:
        ConfigError: the format cannot be imported, the configuration is missing or wrong, or the
            name is unusable.
        DataError: the data set must be read, and is missing or broken.
        RunError: the file is broken or too large, its arrays are not those of the configuration,
            or the run directory exists or cannot be written.
    """
    check_name(runs_dir, name, force=force)
    check_place(runs_dir, to_save=True)
    runs.refuse_study(runs_dir)
    form = form_of(file)
    content = _content(file)
    try:
        portable = form.restore(content)
    except (ValueError, RecursionError) as error:
        raise RunError(
            f"{file}: cannot be read as {form.name}: {first_line(error)}",
            hint=f"vaectl export RUN --format {form.name} writes such a file",
        ) from None
    settings = _settings(file, portable.facts, config_file, assignments)
    unchanged = config_file is None and not assignments
    facts = portable.facts
    found = facts.data if facts and unchanged else _data_of(file, settings)
    device = devices.select("auto")
    program = Program.of(
        settings,
        images=1,
        image_shape=found["image_shape"],
        classes=found.get("classes", 0),
    )
    _check_arrays(file, portable, program)
    with jax.default_device(device):
        shapes = jax.eval_shape(lambda: program.vae.init(jax.random.key(0)))
        state = compiled.begin(program, program.somebody, with_arrays(shapes, portable.arrays))
    with RunDir.create(
        runs_dir, name, f"imported-{network_name_of(settings)}", force=force
    ) as rundir:
        imported = Imported(
            file=str(file),
            sha256=hashlib.sha256(content).hexdigest(),
            name=facts.name if facts else "",
            checkpoint=facts.checkpoint if facts else "",
            vaectl=facts.vaectl if facts else "",
        )
        header = f"the resolved configuration of {rundir.name}, imported from {file}"
        rundir.write_config(documents.dump(settings, header))
        rundir.write_record(_record(rundir.name, settings, found, imported, device))
        rundir.write_metrics([], [])
        info = Info(epoch=0, step=0, score=None, image_shape=found["image_shape"], imported=True)
        with quiet_orbax(), Checkpoints(rundir.checkpoints) as checkpoints:
            checkpoints.save(state, info)
    return rundir


def _content(file: Path) -> bytes:
    try:
        return read(file, MOST_BYTES)
    except OSError as error:
        raise unreadable(file, error) from None


def _settings(
    file: Path, facts: Facts | None, config_file: Path | None, assignments: Sequence[str]
) -> config.Config:
    """Return the configuration of the file, or the one that is given in its place.

    Raises:
        ConfigError: there is none, or it is wrong.
        RunError: it needs a plug that is not loaded.
    """
    if config_file is not None:
        return reading.load(config_file, assignments=assignments)
    if facts is None:
        raise ConfigError(
            f"{file}: the file does not say what its arrays are",
            hint="give the configuration of its network: --config FILE.yaml",
        )
    if missing := missing_plugs(facts.plugs):
        raise RunError(
            f"{file}: needs {missing[0]}, which is not loaded",
            hint="if you trust that file, name it: --plugin FILE.py",
        )
    values: dict[str, Any] = dict(facts.config)
    origins: documents.Origins = {(key,): f"{file}" for key in values}
    reading.change(values, origins, assignments)
    return reading.build(schema.Config, values, origins)


def _data_of(file: Path, settings: config.Config) -> DataFacts:
    """Read the data set, and describe it.

    Raises:
        DataError: it is missing or broken.
    """
    try:
        dataset = data.load(settings.data)
    except DataError as error:
        raise DataError(
            f"{file}: the data of the model: {error.message}",
            hint="name them: --set data.source=SOURCE; vaectl data list shows all sources",
        ) from None
    return data_facts(settings.data.source, dataset)


def _check_arrays(file: Path, portable: Portable, program: Program) -> None:
    """Refuse arrays other than those of the network, before a network is made.

    Raises:
        RunError: an array is missing, unknown, of another shape or type, or not finite.
    """
    vae = program.vae
    wanted: Mapping[str, Any] = jax.eval_shape(lambda: named(vae.init(jax.random.key(0))))
    there = portable.arrays
    wrong = [f"{name}: missing" for name in wanted if name not in there]
    wrong += [f"{name}: not an array of this network" for name in there if name not in wanted]
    for name, one in wanted.items():
        if name in there:
            wrong += [f"{name}: {what}" for what in _differing(there[name], one)]
    if wrong:
        more = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
        what = f"{vae.model.summary(vae.code_size)}, {vae.likelihood.name}, {vae.image_shape}"
        raise RunError(
            "\n".join([f"{file}: its arrays are not those of {what}", *wrong[:_SHOWN], *more]),
            hint="give the configuration that it was made with: --config FILE.yaml, or --set; "
            "model.json of an export lists the names and shapes of all arrays",
        )


def _differing(array: np.ndarray, wanted: Any) -> list[str]:
    if array.shape != wanted.shape:
        return [f"its shape is {array.shape}, not {wanted.shape}"]
    if array.dtype != wanted.dtype:
        return [f"its numbers are {array.dtype}, not {wanted.dtype}"]
    if not np.isfinite(array).all():
        return ["some of its numbers are not finite"]
    return []


def _record(
    name: str,
    settings: config.Config,
    found: DataFacts,
    imported: Imported,
    device: jax.Device,
) -> Record:
    """Return the record: what is known of the model, and that nothing was trained here."""
    none = "none: the model was imported"
    return Record(
        name=name,
        status="imported",
        imported=imported,
        seed=settings.seed,
        epochs=settings.epochs,
        start=now(),
        end=now(),
        command=sys.argv,
        git_commit=environment.git_commit(),
        versions=environment.versions(),
        device=devices.describe(device),
        data=found,
        settings=resumption.settled(settings),
        plugs=resumption.plugs_of(settings),
        metrics={
            "unit": "nats per image",
            "estimator": settings.objective.chosen.estimator(settings.objective.samples),
            "binarization": meaning(settings),
            "train": none,
            "validation": none,
        },
        dimensions=dimensions(settings, found["image_shape"]),
    )
