"""Calls that may hang."""

import threading
from collections.abc import Callable


def within(seconds: float, act: Callable[[], object]) -> None:
    """Call a function that may hang, in a thread, and abandon it after some seconds.

    Raises:
        TimeoutError: the function has not returned.
        Exception: the function raised it.
    """
    raised: list[Exception] = []

    def run() -> None:
        try:
            act()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {seconds:g} s")
    if raised:
        raise raised[0]
