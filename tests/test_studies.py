"""What users meet in comparisons and sweeps alike: names, summaries, and what to do next."""

from pathlib import Path

import pytest

from vaectl.studies.naming import name_of_file


@pytest.mark.parametrize(
    ("file", "text", "name"),
    [
        ("quick.yaml", "protocol: paper\n", "quick"),
        ("two keys (1).yml", "vary: {epochs: [1, 2]}\n", "two-keys-1"),
        # a sweep of one experiment is named after what varies, too
        ("mnist.yaml", "epochs: 3\n", None),
        ("latest.yaml", "protocol: paper\n", None),
        ("(.yaml", "protocol: paper\n", None),
    ],
)
def test_a_study_is_named_after_its_file(
    file: str, text: str, name: str | None, tmp_path: Path
) -> None:
    (tmp_path / file).write_text(text)
    assert name_of_file(tmp_path / file) == name


@pytest.mark.parametrize("kind", ["comparison", "sweep"])
def test_the_file_in_a_study_names_that_study(kind: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    file = tmp_path / "mine" / f"{kind}.yaml"
    file.write_text("protocol: paper\nvary: {}\n")
    assert name_of_file(file) == kind  # a file of the user's own
    (tmp_path / "mine" / "trials.csv").touch()
    assert name_of_file(file) == "mine"
    assert name_of_file(None) is None
