import logging
import sys
import warnings
from contextlib import ExitStack

from vaectl.runs.quiet import quiet_orbax


def _settings() -> tuple[object, ...]:
    levels = [logging.getLogger(name).level for name in ("absl", "asyncio")]
    return sys.unraisablehook, levels, warnings.filters[:], warnings.showwarning


def test_the_process_gets_its_settings_back_once_the_last_context_is_left() -> None:
    before = _settings()
    with ExitStack() as one, ExitStack() as other:  # as trainings in two threads
        one.enter_context(quiet_orbax())
        quiet = _settings()
        assert quiet != before
        other.enter_context(quiet_orbax())
        one.close()
        assert _settings() == quiet
    assert _settings() == before
