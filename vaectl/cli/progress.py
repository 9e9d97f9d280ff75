"""What a person sees while a run trains: a bar on a terminal, else a plain line now and then."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from vaectl.base.terminal import say, visible
from vaectl.objectives.base import label
from vaectl.training.events import Event, Note, Phase, Training, Warned, Watch
from vaectl.training.fit import Chunk, Epoch

_SECONDS_BETWEEN_LINES = 10.0
_DESCRIPTION = TextColumn("{task.description}", markup=False)  # names may hold what would be markup


@contextmanager
def watching(*, quiet: bool = False) -> Iterator[Watch]:
    """Show the events of a run on stderr, by what stderr is.

    Args:
        quiet: show warnings only.
    """
    console = Console(stderr=True, highlight=False)
    if quiet:
        yield _warn
    elif console.is_terminal:
        with _bar(console) as watch:
            yield watch
    else:
        yield _lines()


def _warn(event: Event) -> None:
    if isinstance(event, Warned):
        say(f"warning: {event.text}")


@contextmanager
def _bar(console: Console) -> Iterator[Watch]:
    bar = Progress(
        SpinnerColumn(),
        _DESCRIPTION,
        BarColumn(bar_width=24),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    task = bar.add_task("starting", total=None, numbers="")
    training = Training(0, 0, 1)

    def watch(event: Event) -> None:
        nonlocal training
        match event:
            case Warned(text):
                bar.console.print(visible(f"warning: {text}"), markup=False)
            case Note(text):
                bar.console.print(visible(text), markup=False)
            case Phase(text):
                bar.update(task, description=visible(text))
            case Training():
                training = event
                done = event.step / event.steps_per_epoch
                bar.reset(task, total=event.epochs)
                bar.update(task, completed=done, description=_place(event, int(done)), numbers="")
            case Chunk():
                bar.update(task, completed=event.step / training.steps_per_epoch)
            case Epoch():
                bar.update(
                    task,
                    completed=event.epoch,
                    description=_place(training, event.epoch),
                    numbers=_numbers(event, training.images),
                )

    with bar:
        yield watch


def _lines() -> Watch:
    written = 0.0
    began: tuple[int, float] | None = None  # the first epoch that ended, which compiled too
    training = Training(0, 0, 1)

    def watch(event: Event) -> None:
        nonlocal written, began, training
        match event:
            case Warned():
                _warn(event)
            case Note(text) | Phase(text):
                say(text)
            case Training():
                training, began = event, None
            case Epoch():
                now = time.monotonic()
                first, since = began = began or (event.epoch, now)
                first_or_last = event.epoch in (1, training.epochs)
                if first_or_last or now - written >= _SECONDS_BETWEEN_LINES:
                    written = now
                    numbers = _numbers(event, training.images)
                    left = _left(training.epochs - event.epoch, event.epoch - first, now - since)
                    say(f"{_place(training, event.epoch)}  {numbers}{left}")

    return watch


def _place(training: Training, epoch: int) -> str:
    if training.what:
        return f"{training.what}, {epoch}/{training.epochs} epochs in all"
    return f"epoch {epoch}/{training.epochs}"


def _left(epochs: int, ran: int, seconds: float) -> str:
    """The time that so many epochs will take, at the pace of those that ran."""
    left = epochs * seconds / ran if ran else 0.0
    return f"  {timedelta(seconds=round(left))} left" if left >= 1 else ""


def _numbers(epoch: Epoch, images: int) -> str:
    first = next(iter(epoch.validation))
    return (
        f"{label(first)} train {epoch.train[first]:.2f}, "
        f"validation {epoch.validation[first]:.2f}  "
        f"{images / epoch.train_seconds:,.0f} images/s"
    )


@contextmanager
def counting(text: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show how many of so many are done: a bar with the time left, on a terminal only."""
    console = Console(stderr=True, highlight=False)
    if quiet or not console.is_terminal:
        yield lambda _done, _total: None
        return
    columns = _DESCRIPTION, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(visible(text), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def saying(*, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Show what is being done: with a spinner on a terminal, else a line each."""
    console = Console(stderr=True, highlight=False)
    if quiet:
        yield lambda _what: None
    elif console.is_terminal:
        with console.status("starting") as status:
            yield lambda what: status.update(Text(visible(what)))
    else:
        yield say
