"""The progress of a training: a bar on a terminal, else a plain line now and then."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import Progress

from vaectl.base.terminal import say, visible
from vaectl.cli.bar import is_wide, progress
from vaectl.cli.stragglers import Stragglers
from vaectl.objectives.base import label
from vaectl.training.events import Event, Note, Phase, Planned, Started, Stopped, Warned, Watch
from vaectl.training.fit import Chunk, Epoch

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def watching(*, quiet: bool = False, apart: bool = False) -> Iterator[Watch]:
    """Show the events of a run on stderr: a bar on a terminal, lines elsewhere.

    Args:
        quiet: show warnings only.
        apart: whether workers train the members; slow ones are then reported.
    """
    console = Console(stderr=True, highlight=False)
    if quiet:
        yield _warn
    elif console.is_terminal:
        with _bar(console) as watch:
            yield _with_stragglers(watch) if apart else watch
    else:
        yield _with_stragglers(_lines()) if apart else _lines()


def _with_stragglers(show: Watch) -> Watch:
    """Add lines about slow members to what a watcher shows."""
    stragglers = Stragglers()

    def watch(event: Event) -> None:
        show(event)
        if text := stragglers.add(event):
            show(Note(text))

    return watch


def _warn(event: Event) -> None:
    if isinstance(event, Warned):
        say(f"warning: {event.text}")


@contextmanager
def _bar(console: Console) -> Iterator[Watch]:
    bar, watch = tracking(console)
    with bar:
        yield watch


def tracking(console: Console) -> tuple[Progress, Watch]:
    """Return a bar, and the watcher that moves it."""
    bar = progress(console)
    task = bar.add_task("starting", total=None, numbers="")
    sums = Sums()

    def watch(event: Event) -> None:
        if sums.add(event):
            bar.reset(task, total=sums.total)  # the pace so far belongs to another total
            bar.update(task, completed=sums.done, numbers="")
        match event:
            case Warned(text):
                bar.console.print(visible(f"warning: {text}"), markup=False)
            case Note(text):
                bar.console.print(visible(text), markup=False)
            case Phase(text):
                bar.update(task, description=visible(text))
            case Started(member):
                bar.update(task, description=sums.place(member))
            case Chunk():
                bar.update(task, completed=sums.done)
            case Epoch():
                bar.update(
                    task,
                    completed=sums.done,
                    description=sums.place(event.member),
                    numbers=_numbers(event, sums.images, short=not is_wide(console)),
                )

    return bar, watch


def _lines() -> Watch:
    written = 0.0
    began: tuple[float, float] | None = None  # the first epoch that ended, which compiled too
    sums = Sums()

    def watch(event: Event) -> None:
        nonlocal written, began
        if sums.add(event):
            began = None
        match event:
            case Warned():
                _warn(event)
            case Note(text) | Phase(text):
                say(text)
            case Epoch():
                now = time.monotonic()
                first, since = began = began or (sums.done, now)
                first_or_last = sums.done in (1, sums.total)
                if first_or_last or now - written >= _SECONDS_BETWEEN_LINES:
                    written = now
                    numbers = _numbers(event, sums.images)
                    left = _left(sums.total - sums.done, sums.done - first, now - since)
                    say(f"{sums.place(event.member)}  {numbers}{left}")

    return watch


class Sums:
    """Adds up the epochs of all members."""

    def __init__(self) -> None:
        self.images = 0
        """The number of training images of the member that started last."""
        self._steps_per_epoch = 1
        self._plan = Planned(1, 0)
        self._epochs: dict[str, int] = {}
        """All epochs of each member."""
        self._done: dict[str, float] = {}
        self.done = 0.0
        """The epochs trained so far, over all members."""

    @property
    def total(self) -> int:
        """All epochs that are planned."""
        return self._plan.epochs

    def add(self, event: Event) -> bool:
        """Count an event; return True if the totals changed without training."""
        before = self.total, self.done
        match event:
            case Planned():
                self._plan = event
            case Started(member, step=step):
                program = event.program
                self.images, self._steps_per_epoch = program.images, program.steps_per_epoch
                self._epochs[member] = event.settings.epochs
                self._set(member, step / self._steps_per_epoch)
            case Chunk():
                self._set(event.member, event.step / self._steps_per_epoch)
            case Epoch():
                self._set(event.member, event.epoch)
            case Stopped(member, "finished" | "failed", epochs=epochs):
                # one that diverged trains no more
                self._set(member, self._epochs.get(member, 0) if epochs is None else epochs)
        return not isinstance(event, Chunk | Epoch) and before != (self.total, self.done)

    def _set(self, member: str, done: float) -> None:
        self.done += done - self._done.get(member, 0.0)
        self._done[member] = done

    def place(self, member: str) -> str:
        """Name the member that trains, and the total progress."""
        done = f"{int(self.done)}/{self.total}"
        if self._plan.members > 1:
            return f"{visible(member)}, {done} epochs in all"
        return f"epoch {done}"


def _left(epochs: float, ran: float, seconds: float) -> str:
    """Write the time that `epochs` will take, at the pace of the epochs that ran."""
    left = epochs * seconds / ran if ran else 0.0
    return f"  {timedelta(seconds=round(left))} left" if left >= 1 else ""


def _numbers(epoch: Epoch, images: int, *, short: bool = False) -> str:
    first = next(iter(epoch.validation))
    if short:
        return f"validation {label(first)} {epoch.validation[first]:.2f}"
    return (
        f"{label(first)} train {epoch.train[first]:.2f}, "
        f"validation {epoch.validation[first]:.2f}  "
        f"{images / epoch.train_seconds:,.0f} images/s"
    )
