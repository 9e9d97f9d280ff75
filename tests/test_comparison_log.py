"""The members of a comparison, followed by sinks."""

from pathlib import Path

import pytest

from tests import edits
from tests.apart import draw_nothing
from tests.conftest import Vaectl
from tests.tensorboard import curve
from vaectl.runs.directory import RunDir


def test_each_member_of_the_result_has_its_own_log(
    vaectl: Vaectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_nothing(monkeypatch.setattr)
    Path("c.yaml").write_text(edits.SETTINGS)
    answer = vaectl(*edits.COMMAND, "--log", "tensorboard:images_every=1")
    assert answer.code == 0, answer.err
    assert "warning" not in answer.err
    for name in ("adam-s0", "adam-s1", "sgd-s0", "sgd-s1"):
        run = RunDir(edits.C / name)
        rows = [row for row in run.read_metrics() if row.split == "validation"]
        found = curve(run.path / "tensorboard", "elbo/validation")
        assert found == pytest.approx({row.step: row.terms["elbo"] for row in rows}, abs=1e-4)
    assert not list(edits.C.glob("trials/*/tensorboard"))
