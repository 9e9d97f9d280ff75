"""The time of a command, by what it was spent on.

Code that does a part of the work does it within `on(part)`. If parts are nested, the time counts
for the innermost one; time outside all parts counts as the rest. So the parts add up to the whole.
What JAX traces and compiles within `watching_compilation` counts as compilation, whatever part it
is in. Only the thread that opened the account is counted: work of other threads in the background
takes no time of the command until it waits for them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, final, get_args

Part = Literal[
    "training",
    "waiting for workers",
    "evaluation",
    "compilation",
    "timing of steps",
    "saving",
    "figures and page",
    "loading",
    "rest",
]
"""A part of the work, in the order in which times are told.

timing of steps: the moments of training that tell how long a study and a step take."""


@final
class Spent:
    """An account of the time since it was opened."""

    def __init__(self) -> None:
        """Begin to count."""
        self._parts: dict[Part, float] = dict.fromkeys(get_args(Part), 0.0)
        self._at: Part = "rest"
        self._whole = False
        """True while nested parts count as the current part."""
        self._since = time.perf_counter()
        self._compiled: list[tuple[float, float]] = []
        """The spans in which JAX compiled since the current part began or continued, in order."""

    @property
    def parts(self) -> dict[Part, float]:
        """The seconds of each part until now; their sum is the whole."""
        self._book()
        return dict(self._parts)

    @contextmanager
    def on(self, part: Part, *, whole: bool) -> Iterator[None]:
        """Count the time of a context as that of a part; see the function `on`."""
        before = self._at, self._whole
        if not self._whole:
            self._go_to(part, whole)
        try:
            yield
        finally:
            self._go_to(*before)

    def compiled(self, seconds: float) -> None:
        """Count the last seconds as compilation, and none of them twice.

        JAX reports an inner function first, and then the function that contains it.
        """
        end = time.perf_counter()
        start = max(end - seconds, self._since)
        while self._compiled and self._compiled[-1][0] >= start:
            self._compiled.pop()
        self._compiled.append((start, end))

    def _go_to(self, part: Part, whole: bool) -> None:
        self._book()
        self._at, self._whole = part, whole

    def _book(self) -> None:
        """Add the time since the last change to the present part, and to compilation."""
        now = time.perf_counter()
        compilation = sum(end - start for start, end in self._compiled)
        self._parts["compilation"] += compilation
        self._parts[self._at] += now - self._since - compilation
        self._since, self._compiled = now, []


_OPEN: ContextVar[Spent | None] = ContextVar("spent", default=None)
"""The account of this thread; other threads have none."""


@contextmanager
def counted() -> Iterator[Spent]:
    """Open an account, which counts the time of this thread within the context."""
    account = Spent()
    token = _OPEN.set(account)
    try:
        yield account
    finally:
        _OPEN.reset(token)


@contextmanager
def on(part: Part, *, whole: bool = False) -> Iterator[None]:
    """Count the time of a context as that of a part, if an account is open.

    A generator must not yield inside it: what its caller does would be counted too.

    Args:
        part: what the time is spent on.
        whole: whether nested parts also count as this part; compilation never does.
    """
    account = _OPEN.get()
    if account is None:
        yield
    else:
        with account.on(part, whole=whole):
            yield


@contextmanager
def watching_compilation() -> Iterator[None]:
    """Count what JAX traces, lowers and compiles within the context."""
    from jax import monitoring

    monitoring.register_event_duration_secs_listener(_listen)
    try:
        yield
    finally:
        monitoring.unregister_event_duration_listener(_listen)


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
    account = _OPEN.get()
    if account is not None and event.startswith("/jax/core/compile/"):
        account.compiled(duration_secs)
