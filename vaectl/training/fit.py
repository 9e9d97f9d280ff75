"""Fitting: training from a state to the last epoch, chunk by chunk, as a generator.

The images of the training split are on the device, or in host memory, or on disk: then each chunk's
batches are brought to the device while it computes the chunk before. Nothing here writes or prints.
"""

import time
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, NamedTuple, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, UInt8

from vaectl.base import cluster, mesh, spent
from vaectl.base.errors import DivergedError
from vaectl.base.shapes import shaped
from vaectl.evaluation import means as evaluation
from vaectl.evaluation.means import HostImages, Images, Means, Shapes
from vaectl.objectives.base import label
from vaectl.training import compiled
from vaectl.training.program import Member, Program, TrainState
from vaectl.training.step import Sums

CHUNK_SECONDS = 2.0
"""The approximate seconds after which a long epoch is cut, to report, save and stop."""
FIRST_CHUNK = 1
"""Steps of the first chunk, which measures the time of a step; a step may take a minute."""
HOPELESS, WORSE = -(2.0**24), 16
"""A bound in nats below which float32 cannot resolve one nat. If the bound is below this, and also
this many times lower than at the first step of its epoch, training cannot recover. The second
condition is needed because the density of large images may start that low.
"""
CHUNK_BYTES = 32 * 2**20
"""Bytes brought to the device at once where images stay in host memory."""


class Chunk(NamedTuple):
    """A part of an epoch, not its last. The state is donated when more is asked for."""

    epoch: int
    """The current epoch."""
    step: int
    beyond: int
    """Steps of this epoch so far."""
    sums: dict[str, float]
    """Terms over the images so far, in nats."""
    seconds: float
    """Seconds of training in this epoch so far."""
    state: TrainState
    member: str = ""
    """The member's name; empty until a watcher is told."""
    began: float | None = None
    """The bound of this epoch's first step; None if it is not known."""


class Epoch(NamedTuple):
    """One epoch's results. The state is donated when more is asked for."""

    epoch: int
    step: int
    train: Means
    validation: Means
    train_seconds: float
    validation_seconds: float
    state: TrainState
    member: str = ""
    """The member's name; empty until a watcher is told."""


class Saved(NamedTuple):
    """A state to train on from, perhaps inside an epoch. Training donates it."""

    state: TrainState
    sums: Mapping[str, float] = MappingProxyType({})
    """Terms over the images that its epoch trained on before, in nats."""
    seconds: float = 0.0
    """Seconds of training in its epoch before."""
    began: float | None = None
    """The bound of its epoch's first step; None if there was none, or it is not known."""

    @property
    def step(self) -> int:
        """The number of steps before."""
        return int(self.state.step)


@spent.on("compilation")
def compile_ahead(program: Program, member: Member, train: Shapes, validation: Shapes) -> None:
    """Compile all functions of training in parallel; a second call costs nothing.

    For images on the device, their shapes are enough. The first function, which takes longest,
    compiles while the others are traced.
    """
    state = compiled.shapes(program, member)
    with ThreadPoolExecutor() as pool:
        compiling: list[Future[Any]] = []

        def begin(lowered: Any) -> None:
            compiling.append(pool.submit(lowered.compile))

        if not isinstance(train, evaluation.ON_HOST):
            begin(compiled.train_steps.lower(program, member, state, train, 0, 1))
        else:
            place = member.seed.sharding if member.seed.committed else None
            size = streamed_steps(program), program.batch_size, program.row
            batches = shaped(size, jnp.uint8, place)
            begin(compiled.train_streamed_steps.lower(program, member, state, batches, 0, 1))
            begin(compiled.order.lower(program, member, 0))
        begin(compiled.weights.lower(program, member))
        begin(evaluation.lowered(program.estimator, state.params, validation, member.seed))
        begin(compiled.begin.lower(program, member, state.params))
        if program.optimizer.averages:
            begin(compiled.average.lower(program, member, state))
        for each in compiling:
            each.result()


def fit(
    program: Program,
    member: Member,
    saved: Saved,
    train: Images,
    validation: Images,
) -> Generator[Chunk | Epoch]:
    """Train from a state to the program's last epoch; yield each chunk, and each epoch as it ends.

    The training numbers are means over the epoch, each batch under the parameters that it met (as
    in the paper's Fig. 3); the validation numbers are exact means under the parameters at its end.

    Raises:
        DivergedError: a NaN or an infinity in the bound; names the epoch and the step.
        Ended: the first of several processes has ended the training.
    """
    compile_ahead(program, member, train, validation)
    state = mesh.beside(saved.state, member.seed)
    total, seconds, began = dict(saved.sums), saved.seconds, saved.began
    stream = Stream(program, member, train) if isinstance(train, evaluation.ON_HOST) else None
    steps = program.steps_per_epoch
    limit = steps if stream is None else stream.steps
    done, most = int(state.step), min(FIRST_CHUNK, limit)
    for epoch in range(done // steps + 1, program.epochs + 1):
        end = epoch * steps
        while done < end:
            start = time.perf_counter()
            # in equal parts, none longer than the pace so far allows
            stop = done + -(-(end - done) // -(-(end - done) // most))
            stop = cluster.agreed(stop)
            with spent.on("training"):
                if stream is not None:
                    state, of_steps = stream.train(state, done, stop)
                else:
                    state, of_steps = compiled.train_steps(
                        program, member, state, train, done, stop
                    )
                terms = {name: np.asarray(values, np.float64) for name, values in of_steps.items()}
            check_steps(terms, program.objective.best, end - steps, epoch)
            if done == end - steps:
                began = first_bound(program, terms)
            taken = time.perf_counter() - start
            # exact in float64, and so the same however the epoch is cut
            total = {name: total.get(name, 0.0) + float(terms[name].sum()) for name in terms}
            seconds += taken
            most = min(max(int((stop - done) * CHUNK_SECONDS / taken), 1), limit)
            done = stop
            if done < end:
                beyond = done - (end - steps)
                yield Chunk(epoch, done, beyond, total, seconds, state, began=began)
        start = time.perf_counter()
        with spent.on("evaluation"):
            variables = compiled.evaluated(program, member, state)
            held_out = evaluation.split_means(
                program.estimator, variables, validation, member.seed, end, float(epoch)
            )
        check_held_out(held_out, program.objective.best, end, epoch, began)
        yield Epoch(
            epoch=epoch,
            step=end,
            train=evaluation.means(total, len(train)),
            validation=held_out,
            train_seconds=seconds,
            validation_seconds=time.perf_counter() - start,
            state=state,
        )
        total, seconds = {}, 0.0


@final
class Stream:
    """Batches from host memory or disk: the next ones travel while the device computes."""

    steps: int
    """The largest number of steps that `train` can run at once."""

    def __init__(self, program: Program, member: Member, images: HostImages) -> None:
        self._program, self._member, self._images = program, member, images
        self._order: tuple[int, np.ndarray] = -1, np.empty(0)
        self._read: tuple[int, np.ndarray] = -1, np.empty(0)
        """The step of the first of the batches that were read last, and these."""
        self._ahead: tuple[int, Array] = -1, jnp.empty(0)
        self.steps = streamed_steps(program)

    def train(self, state: TrainState, first: int, stop: int) -> tuple[TrainState, Sums]:
        """Run steps, and bring the batches of those that follow while they run."""
        at, batches = self._ahead
        if at != first:
            batches = self._brought(first, self._rows(first))
        rows = self._rows(stop)  # before the steps, for which the order would wait
        result: tuple[TrainState, Sums] = compiled.train_streamed_steps(
            self._program, self._member, state, batches, first, stop
        )
        self._ahead = stop, self._brought(stop, rows)
        return result

    def _rows(self, first: int) -> Int32[np.ndarray, "some batch"]:
        epoch, place = divmod(first, self._program.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = epoch, np.asarray(compiled.order(self._program, self._member, epoch))
        return self._order[1][place : place + self.steps]

    def _brought(
        self, first: int, rows: Int32[np.ndarray, "some batch"]
    ) -> UInt8[Array, "chunk batch pixels"]:
        """Bring batches to the device; those that were read before are not read again."""
        at, read = self._read
        known = read[first - at : first - at + len(rows)] if 0 <= at <= first else read[:0]
        missing = rows[len(known) :]
        images = np.asarray(self._images[missing.reshape(-1)])
        batches = images.reshape(*missing.shape, self._program.row)
        if len(known):
            batches = np.concatenate([known, batches])
        self._read = first, batches
        if short := self.steps - len(batches):  # one shape, so that there is one program
            batches = np.pad(batches, ((0, short), (0, 0), (0, 0)))
        brought: Array = mesh.beside(batches, self._member.seed)
        return brought


def streamed_steps(program: Program) -> int:
    """Return the number of steps whose batches are brought to the device at once."""
    size = program.batch_size * program.row
    return min(max(CHUNK_BYTES // size, 1), program.steps_per_epoch)


def check_steps(
    sums: Mapping[str, Float[np.ndarray, " steps"]], best: str, before: int, epoch: int
) -> None:
    """Raise a DivergedError that names the first of an epoch's steps that is not finite.

    `best` is the number that says which epoch is best; `before` counts the steps before this epoch.
    """
    bad = np.flatnonzero(~np.isfinite([*sums.values()]).all(axis=0))
    if bad.size:
        raise _diverged(label(best), f"epoch {epoch}, step {before + int(bad[0]) + 1}")


def first_bound(program: Program, sums: Mapping[str, Float[np.ndarray, " steps"]]) -> float:
    """Return the bound that decides, as the mean over the batch of the first of some steps."""
    first = {name: float(values[0]) for name, values in sums.items()}
    return evaluation.means(first, program.batch_size)[program.objective.best]


def check_held_out(
    means: Means, best: str, step: int, epoch: int, began: float | None = None
) -> None:
    """Raise a DivergedError if the bound of the validation split is not finite, or beyond hope.

    `best` is the number that says which epoch is best; `began` is the bound of the first step of
    the epoch. If it is None, a checkpoint of an older vaectl did not tell it: then no finite bound
    is beyond hope.
    """
    where = f"epoch {epoch}, step {step}, on the validation split"
    if not np.isfinite([*means.values()]).all():
        raise _diverged(label(best), where)
    if began is not None and means[best] < min(HOPELESS, WORSE * began):
        raise _diverged(label(best), where, f"{means[best]:.3g}")


def _diverged(what: str, where: str, value: str = "not finite") -> DivergedError:
    return DivergedError(
        f"training diverged: the {what} is {value} at {where}",
        hint="try a smaller --learning-rate, or --set optimizer.clip_norm=100",
    )
