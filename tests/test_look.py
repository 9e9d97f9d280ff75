"""Looking at a trained model by the command line: one small run on the embedded digits."""

import copy
import itertools
import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageSequence

import vaectl as package
from tests.conftest import Vaectl, sent
from vaectl import data, experiment
from vaectl.base import devices
from vaectl.base.errors import ConfigError, DataError, RunError
from vaectl.base.files import Folder
from vaectl.data.binarization import draw
from vaectl.experiment import Result
from vaectl.pictures import figures, latent
from vaectl.pictures import style as styles
from vaectl.pictures import views as look
from vaectl.pictures.canvas import Figure
from vaectl.runs import belongings, saved, trained
from vaectl.runs.checkpoints import Checkpoints
from vaectl.runs.directory import RunDir
from vaectl.runs.find import find
from vaectl.runs.saved import Info
from vaectl.training.program import TrainState


def _png(path: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))


def _frames(path: str) -> list[np.ndarray]:
    with Image.open(path) as animation:
        return [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(animation)]


def _arrays(file: str) -> dict[str, np.ndarray]:
    with np.load(file) as arrays:
        return dict(arrays)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("sample", "z2", "--count", "9"), marks=pytest.mark.full),
        ("sample", "z5", "--draw", "binary", "--temperature", "0.5", "--seed", "3"),
        pytest.param(("manifold", "z2", "--grid", "4"), marks=pytest.mark.full),
        ("manifold", "z5", "--grid", "3", "--spacing", "quantile", "--range", "2"),
        ("manifold", "z5", "--grid", "3", "--dims", "4", "1", "--anchor", "7"),
        pytest.param(("morph", "z2", "--rows", "2", "--steps", "4"), marks=pytest.mark.full),
        ("morph", "z5", "--pairs", "0:1", "--pairs", "1:5", "--path", "spherical", "--from-mean"),
        pytest.param(("morph", "z5", "--rows", "1", "--space", "latent"), marks=pytest.mark.full),
        ("reconstruct", "z2", "--count", "11", "--split", "validation"),
        ("inspect", "z2"),
        ("inspect", "z5", "--split", "train"),
    ],
    ids=" ".join,
)
def test_every_picture_is_black_on_white_and_in_the_runs_figures(
    vaectl: Vaectl, runs: Path, command: tuple[str, ...]
) -> None:
    code, out, err = vaectl(*command)
    assert (code, err) == (0, "")
    assert out == f"runs/{command[1]}/figures/{command[0]}.png\n"
    pixels = _png(out.strip())
    assert pixels.max() == 255
    assert pixels.min() < 60
    assert (pixels > 128).mean() > 0.5
    assert min(pixels.shape) > 100
    assert (runs / command[1] / "figures" / f"{command[0]}.png").is_file()


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_pictures_go_where_they_are_wanted_in_every_format(
    vaectl: Vaectl, runs: Path, suffix: str
) -> None:
    assert runs.is_dir()
    assert vaectl("sample", "z2", "--out", f"picture.{suffix}").out == f"picture.{suffix}\n"
    start = Path(f"picture.{suffix}").read_bytes()[:5]
    assert start == {"png": b"\x89PNG\r", "svg": b"<?xml", "pdf": b"%PDF-"}[suffix]


@pytest.mark.parametrize(
    ("command", "frames"),
    [
        (("sample", "z5", "--count", "4"), 2),
        (("manifold", "z5", "--grid", "2", "--range", "posterior"), 2),
        (("morph", "z2", "--rows", "2", "--steps", "3"), 6),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_an_animation_shows_epochs_or_a_walk_along_rows(
    vaectl: Vaectl, runs: Path, command: tuple[str, ...], frames: int
) -> None:
    run = RunDir(runs / command[1])
    if command[1] == "z5":
        longer = run.read_config().model_copy(update={"epochs": 5})
        experiment.resume(run, longer, extend=True)
    code, out, err = vaectl(*command, "--animate")
    assert (code, out) == (0, f"runs/{command[1]}/figures/{command[0]}.gif\n")
    assert ("2 checkpoints, of epochs 4, 5" in err) == (command[1] == "z5")
    shown = _frames(out.strip())
    assert len(shown) == frames
    assert all((one != other).any() for one, other in itertools.pairwise(shown))
    # it is vaectl's own, and goes with the run
    assert belongings.is_made(Folder(run.path / "figures"), f"{command[0]}.gif", belongings.VIEWS)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_an_animation_is_an_mp4_too(vaectl: Vaectl, runs: Path) -> None:
    assert runs.is_dir()
    command = ("morph", "z2", "--rows", "1", "--steps", "2", "--animate", "--out", "a.mp4")
    assert vaectl(*command).out == "a.mp4\n"
    assert b"ftyp" in Path("a.mp4").read_bytes()[:16]


def test_an_animation_as_mp4_needs_ffmpeg(
    vaectl: Vaectl, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runs.is_dir()
    monkeypatch.setenv("PATH", "")
    code, out, err = vaectl("morph", "z2", "--animate", "--out", "a.mp4")
    assert (code, out) == (2, "")
    assert "ffmpeg" in err
    assert ".gif" in err


def test_all_checkpoints_are_kept_on_request(vaectl: Vaectl) -> None:
    sets = ("checkpoint.keep=all", "checkpoint.every=1", "data.train_size=200", "epochs=4")
    sizes = ("model.hidden_size=4", "data.validation_size=20", "data.test_size=20")
    options = [part for each in (*sets, *sizes) for part in ("--set", each)]
    assert vaectl("train", "--quiet", "--name", "a", *options).code == 0
    found = saved.kept(RunDir(Path("runs/a")).checkpoints)
    assert [info.epoch for info in found] == [1, 2, 3, 4]
    advice = vaectl("sample", "a", "--animate", "--count", 1).err
    assert "4 checkpoints" in advice
    assert "--resume NAME" in advice
    assert "keep=all" not in advice  # it was trained so


def test_curves_of_runs_share_their_axes(vaectl: Vaectl, runs: Path) -> None:
    assert runs.is_dir()
    assert vaectl("curves", "z5").out == "runs/z5/figures/curves.png\n"
    assert vaectl("curves", "z5", "--term", "kl").out == "runs/z5/figures/kl.png\n"
    once = Path("runs/z5/figures/kl.png").read_bytes()
    assert vaectl("curves", "z5", "--term", "kl", "--term", "kl").out == "runs/z5/figures/kl.png\n"
    assert Path("runs/z5/figures/kl.png").read_bytes() == once
    command = (
        "curves",
        "z2",
        "z5",
        "--from",
        2,
        "--width",
        100,
        "--out",
        "a.svg",
        "--by",
        "seconds",
    )
    assert vaectl(*command).out == "a.svg\n"
    drawn = Path("a.svg").read_text()
    assert 'width="283.464' in drawn  # points
    for words in (">z2<", ">z5<", "seconds of training", "KL, closed form", "ELBO, 1 sample"):
        assert words in drawn


def test_only_members_of_one_study_are_averaged(vaectl: Vaectl, runs: Path) -> None:
    def legend(*paths: object) -> list[str]:
        assert vaectl("curves", *paths, "--term", "kl", "--out", "a.svg").code == 0
        texts = [each.text for each in ElementTree.parse("a.svg").iter() if each.text]  # noqa: S314
        assert not any("seeds" in text for text in texts)
        return [text for text in texts if "z2" in text or "z5" in text]

    shutil.copytree(runs / "z5", "other/z2")
    assert legend("z2", "other/z2") == ["runs/z2", "other/z2"]
    shutil.copytree(runs / "z5", "other/deep/runs/z2")
    assert legend("z2", "z5", "other/deep/runs/z2")[1:] == ["z5", "deep/runs/z2"]
    # a run that is named twice is one
    latest = vaectl("curves", "latest", "--term", "kl").out
    assert vaectl("curves", "latest", latest.split("/")[1], "--term", "kl").out == latest


def test_a_style_is_that_of_every_picture(vaectl: Vaectl, runs: Path) -> None:
    assert runs.is_dir()
    for command in (
        ("sample", "z2", "--count", 4),
        ("manifold", "z2", "--grid", 2),
        ("morph", "z2", "--rows", 1),
        ("reconstruct", "z2", "--count", 3),
        ("inspect", "z2"),
        ("curves", "z2"),
    ):
        style = ("--style", "dark", "--title", "none", "--width", "90")
        path = vaectl(*command, *style).out.strip()
        with Image.open(path) as picture:
            assert picture.convert("RGB").getpixel((2, 2)) == (0x15, 0x17, 0x1C)
            assert picture.width / picture.info["dpi"][0] * 25.4 == pytest.approx(90, abs=0.3)


@pytest.mark.parametrize("width", ["column", None])
@pytest.mark.parametrize("theme", ["paper", "slides", "dark"])
def test_images_are_large_enough_wherever_they_are_shown(
    runs: Path, theme: str, width: str | None
) -> None:
    model, style = package.load(runs / "z2"), styles.parse(theme=theme, width=width)
    plane = look.plane(model, style=style)
    views = {
        "sample": look.sample(model, count=None, temperature=1, draw="mean", seed=0, style=style),
        "manifold": look.manifold(model, plane, style=style),
        "morph": look.morph(
            model, pairs=[], space="both", path="linear", from_mean=True, seed=0, style=style
        ),
        "reconstruct": look.reconstruct(model, count=None, split_name="test", seed=0, style=style),
    }
    for name, view in views.items():
        figure = view.figure
        assert isinstance(figure, Figure)
        wide, high = 25.4 * figure.get_size_inches()
        assert high <= (0.57 * wide if width is None and theme != "paper" else 250)
        for axes in figure.axes:
            pixels = np.asarray(axes.images[0].get_array()).shape[1]
            image = axes.get_position().width * wide * 28 / pixels
            assert image > 3.8 * style.theme.font / 8, name


def test_reconstructions_fit_a_page_and_say_what_their_greys_mean(runs: Path) -> None:
    model = package.load(runs / "z2")

    def drawn(**how: Any) -> Figure:
        style = styles.parse(**how)
        figure = look.reconstruct(model, count=None, split_name="test", seed=0, style=style).figure
        assert isinstance(figure, Figure)
        return figure

    assert 100 < 25.4 * drawn(width="40").get_size_inches()[1] < 240
    for polarity, means in (
        ("ink", "1 is black"),
        ("light", "1 is white; difference: 1 is black"),
    ):
        (heading,) = drawn(polarity=polarity).texts
        assert " ".join(heading.get_text().split()).endswith(means)
    (heading,) = drawn(theme="dark").texts
    assert " ".join(heading.get_text().split()).endswith("; 1 is white")


def test_a_number_that_was_asked_for_is_shown(runs: Path) -> None:
    model, style = package.load(runs / "z2"), styles.parse(theme="slides", width="column")
    assert look.plane(model, grid=40, style=style).x.shape == (40,)
    view = look.morph(
        model, rows=9, steps=30, pairs=[], space="both", path="linear", from_mean=True, seed=0,
        style=style,
    )  # fmt: skip
    assert view.arrays["latent_space"].shape[:2] == (9, 30)


@pytest.mark.parametrize(
    ("command", "facts"),
    [
        (("sample", "z2"), "1 is black"),
        (("reconstruct", "z2"), "binarized at 0.5; 1 is black"),
        (("manifold", "z2"), "linear spacing"),
        (("inspect", "z2"), "test split"),
        (("curves", "z2"), "binarized at 0.5"),
        (("curves", "z2", "z5"), "binarized at 0.5"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_title_of_ones_own_leaves_what_the_figure_says_of_its_numbers(
    vaectl: Vaectl, runs: Path, command: tuple[str, ...], facts: str
) -> None:
    assert runs.is_dir()
    for title, there in (("Mine", True), ("none", False)):
        assert vaectl(*command, "--title", title, "--out", "a.svg").code == 0
        words = " ".join("".join(ElementTree.parse("a.svg").getroot().itertext()).split())  # noqa: S314
        assert (facts in words) == there
        assert ("Mine" in words) == there


def test_runs_whose_numbers_do_not_compare_have_axes_of_their_own(
    vaectl: Vaectl, runs: Path
) -> None:
    grey = ("--likelihood", "continuous_bernoulli", "--set", "data.binarization=none")
    small = ("--set", "model.hidden_size=4", "--set", "data.train_size=200", "--epochs", 1)
    assert vaectl("train", *grey, *small, "--name", "grey", "--quiet").code == 0
    found = [RunDir(runs / name) for name in ("z2", "grey", "z5")]
    figure = figures.curves_of(found, ["elbo"])
    drawn = [{str(line.get_label()).strip("_") for line in axes.lines} for axes in figure.axes]
    assert drawn == [{"z2", "z5"}, {"grey"}]
    first, second = (axes.get_title(loc="left") for axes in figure.axes)
    assert "binarized at 0.5" in first
    assert "densities" in second


def test_a_plane_may_span_the_aggregate_posterior(vaectl: Vaectl, runs: Path) -> None:
    def coordinates(wanted: str, *more: object) -> list[list[float]]:
        command = ("manifold", "z2", "--grid", 3, "--range", wanted, "--save-arrays", "a.npz")
        assert vaectl(*command, *more).code == 0
        with np.load("a.npz") as arrays:
            return [arrays[name].tolist() for name in ("coordinates", "y")]

    assert coordinates("-1,2") == [[-1, 0.5, 2]] * 2
    assert coordinates("-1,2,0,4") == [[-1, 0.5, 2], [0, 2, 4]]
    assert coordinates("prior") == [[-3, 0, 3]] * 2
    assert vaectl("manifold", "z2", "--range", "0").code == 2
    drawn = [coordinates("posterior", "--seed", seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    mu, log_var = package.load(runs / "z2").encode(
        package.load(runs / "z2").split("validation").images
    )
    for spacing in ("linear", "quantile"):
        for dim, found in enumerate(coordinates("posterior", "--spacing", spacing)):
            spread = mu[:, dim].std() ** 2 + np.exp(log_var[:, dim]).mean()
            assert found == sorted(found)
            assert 3 * spread**0.5 < found[-1] - found[0] < 7 * spread**0.5
            assert abs((found[0] + found[-1]) / 2 - mu[:, dim].mean()) < 2 * spread**0.5


def test_samples_are_decoded_codes_from_the_prior(vaectl: Vaectl, runs: Path) -> None:
    vaectl("sample", "z2", "--count", 50, "--seed", 4, "--save-arrays", "a.npz")
    arrays = _arrays("a.npz")
    model = package.load(runs / "z2")
    assert arrays["z"].shape == (50, 2)
    np.testing.assert_allclose(arrays["images"], model.decode(arrays["z"]), rtol=1e-5)
    np.testing.assert_allclose(arrays["images"], model.sample(50, seed=4), rtol=1e-5)
    assert arrays["images"].min() >= 0
    assert arrays["images"].max() <= 1
    vaectl(
        "sample", "z2", "--count", 50, "--seed", 4, "--temperature", 0.1, "--save-arrays", "b.npz"
    )
    np.testing.assert_allclose(_arrays("b.npz")["z"], 0.1 * arrays["z"], rtol=1e-6)


def test_binary_draws_are_binary_and_have_the_means(vaectl: Vaectl, runs: Path) -> None:
    assert runs.is_dir()
    vaectl("sample", "z2", "--count", 500, "--draw", "binary", "--save-arrays", "a.npz")
    vaectl("sample", "z2", "--count", 500, "--save-arrays", "b.npz")
    binary, means = _arrays("a.npz")["images"], _arrays("b.npz")["images"]
    assert set(np.unique(binary)) == {0, 1}
    assert abs(binary.mean() - means.mean()) < 0.01


def test_the_manifold_has_the_coordinates_that_it_says(vaectl: Vaectl, runs: Path) -> None:
    vaectl("manifold", "z5", "--grid", 3, "--dims", 3, 1, "--save-arrays", "a.npz")
    arrays = _arrays("a.npz")
    assert arrays["coordinates"].tolist() == [-3, 0, 3]
    assert look._told_apart(arrays["coordinates"]) == ["-3.0", "0.0", "3.0"]
    assert look._told_apart(np.array([0.01, 0.0149])) == ["0.010", "0.015"]
    assert arrays["z"][0, 2].tolist() == [0, 3, 0, 3, 0]
    assert arrays["z"][2, 0].tolist() == [0, -3, 0, -3, 0]
    model = package.load(runs / "z5")
    np.testing.assert_allclose(arrays["images"][0, 2], model.decode(arrays["z"][0, 2]), rtol=1e-5)
    vaectl("manifold", "z5", "--grid", 1, "--anchor", 2, "--save-arrays", "b.npz")
    mu, _ = model.encode(model.split("test").images[2:3])
    found = _arrays("b.npz")["z"][0, 0]
    assert np.isclose(found, mu[0], rtol=1e-4).sum() == 3  # all but the two that the plane moves


def test_the_default_plane_is_that_of_the_most_active_dimensions(
    vaectl: Vaectl, runs: Path
) -> None:
    vaectl("manifold", "z5", "--grid", 2, "--save-arrays", "a.npz")
    moved = set(np.flatnonzero(_arrays("a.npz")["z"].std(axis=(0, 1))).tolist())
    model = package.load(runs / "z5")
    mu, log_var = model.encode(model.split("validation").images)
    kl = 0.5 * (mu**2 + np.exp(log_var) - 1 - log_var).mean(axis=0)
    assert moved == set(latent.most_active(kl))


@pytest.mark.parametrize("ends", [(), ("--from-mean",)])
def test_morphs_start_and_end_at_their_images_and_chain(
    vaectl: Vaectl, runs: Path, ends: tuple[str, ...]
) -> None:
    vaectl("morph", "z5", "--rows", 4, "--steps", 5, *ends, "--save-arrays", "a.npz")
    arrays = _arrays("a.npz")
    pairs = arrays["pairs"]
    assert pairs.shape == (4, 2)
    assert (pairs[:-1, 1] == pairs[1:, 0]).all()
    model = package.load(runs / "z5")
    split = model.split("test")
    assert split.labels is not None
    assert (split.labels[pairs[:, 0]] != split.labels[pairs[:, 1]]).all()
    images = np.asarray(split.images).reshape(-1, 28, 28) / 255
    np.testing.assert_allclose(arrays["image_space"][:, 0], images[pairs[:, 0]], atol=1e-6)
    np.testing.assert_allclose(arrays["image_space"][:, -1], images[pairs[:, 1]], atol=1e-6)
    # the same code ends a row and starts the next one
    np.testing.assert_array_equal(arrays["z"][:-1, -1], arrays["z"][1:, 0])
    np.testing.assert_allclose(
        arrays["latent_space"], model.decode(arrays["z"]), rtol=1e-4, atol=1e-6
    )
    if ends:
        mu, _ = model.encode(split.images[pairs[:, 0]])
        np.testing.assert_allclose(arrays["z"][:, 0], mu, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("pairs", "chains"), [([], True), ([(0, 1), (1, 5)], True), ([(0, 1), (2, 3)], False)]
)
def test_morphs_say_that_they_chain_if_they_do(
    runs: Path, pairs: list[tuple[int, int]], chains: bool
) -> None:
    view = look.morph(
        package.load(runs / "z2"),
        rows=2,
        steps=2,
        pairs=pairs,
        space="both",
        path="linear",
        from_mean=True,
        seed=0,
    )
    assert isinstance(view.figure, Figure)
    title = view.figure.texts[0].get_text()
    assert ("each row starts where the last one ended" in title) == chains
    assert title.splitlines()[1].startswith("morphing test images, posterior means")


def test_evaluate_prints_a_table_and_keeps_the_numbers(vaectl: Vaectl, runs: Path) -> None:
    code, out, err = vaectl("evaluate", "z5", "--importance-samples", 20, "--samples", 3)
    assert (code, err) == (0, "")
    assert "z5, epoch 4: test split, 120 images, binarized at 0.5" in out
    assert "ELBO, 3 samples" in out
    assert "log p(x), lower bound IW-20" in out
    assert "active units" in out
    assert out.splitlines()[-1] == "runs/z5/evaluation.json"
    kept = json.loads((runs / "z5" / "evaluation.json").read_text())["test"]
    assert kept["log_likelihood"]["mean"] > kept["elbo"]["mean"]
    assert kept["elbo"]["mean"] == pytest.approx(-kept["kl"]["mean"] - kept["nll"]["mean"])
    assert kept["elbo"]["standard_error"] > 0
    assert (kept["prior_samples"], kept["broken_samples"] <= 1000) == (1000, True)
    assert f"{kept['broken_samples'] / 1000:.1%} of 1,000" in out
    assert sum(kept["kl_by_dimension"]) == pytest.approx(kept["kl"]["mean"], rel=1e-4)
    # another split is kept beside it, the same one in its place
    as_json = json.loads(vaectl("evaluate", "z5", "--split", "validation", "--json").out)
    vaectl("evaluate", "z5", "--importance-samples", 0)
    evaluations = json.loads((runs / "z5" / "evaluation.json").read_text())
    assert evaluations["validation"] == as_json
    assert evaluations["test"]["log_likelihood"] is None


def test_an_evaluation_that_cannot_be_kept_is_printed_all_the_same(
    vaectl: Vaectl, runs: Path
) -> None:
    (runs / "z2" / "evaluation.json").write_text("{")
    for more in ((), ("--json",)):
        code, out, err = vaectl("evaluate", "z2", "--importance-samples", 0, *more)
        assert code == 4
        assert "ELBO, 1 sample" in out or json.loads(out)["samples"] == 1
        assert err.startswith(
            "error: runs/z2/evaluation.json: it was changed, is damaged, or is not"
        )


def test_the_elbo_that_is_evaluated_is_the_one_that_training_saw(runs: Path) -> None:
    from vaectl.evaluation import assess as assessment

    model = package.load(runs / "z5", "latest")
    found = assessment.assess(model, "validation", samples=200, importance_samples=0, seed=1)
    assert found.elbo.mean == pytest.approx(model.checkpoint.score, abs=0.5)


def test_the_train_split_is_binary_wherever_it_is_looked_at(runs: Path) -> None:
    model = package.load(runs / "z2")
    grey = model.settings.data.model_copy(update={"binarization": "stochastic"})
    model.settings = model.settings.model_copy(update={"data": grey})
    for split in ("train", "validation", "test"):
        images = model.split(split).images
        assert set(np.unique(images)) == {0, 255}
        np.testing.assert_array_equal(images, model.split(split).images)
    expected = draw(data.load(grey).train.images, "train")
    np.testing.assert_array_equal(model.split("train").images, expected)


def test_a_collapsed_posterior_is_warned_of(vaectl: Vaectl) -> None:
    """Weight decay takes all weights away, and with them what the code carries."""
    vaectl("train", "--epochs", 1, "--set", "optimizer.weight_decay=1000", "--name", "d")
    out = vaectl("evaluate", "d", "--importance-samples", 0).out
    assert "warning: posterior collapse" in out
    assert "active units: 0 of 20" in out


def _change_record(run: Path, **update: object) -> None:
    """Change run.json, as a vaectl that wrote no seals would have written it."""
    record = json.loads((run / "run.json").read_text()) | update
    del record["seal"]
    (run / "run.json").write_text(json.dumps(record))


def test_runs_are_listed_newest_first_with_broken_ones_named(vaectl: Vaectl, runs: Path) -> None:
    (runs / "reference").mkdir()
    (runs / "reference" / "manifold.png").write_bytes(b"")
    (runs / "without-record" / "checkpoints").mkdir(parents=True)
    (runs / "broken").mkdir()
    (runs / "broken" / "run.json").write_text("{")
    _change_record(runs / "z2", status="running", start="2020-01-01T00:00:00+00:00")
    code, out, err = vaectl("runs")
    assert code == 0
    _, *lines = out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["z5", "z2", "broken", "without-record"]
    assert "finished" in lines[0]
    assert "4/4" in lines[0]
    assert "killed" in lines[1]
    assert "not a run" in lines[2]
    assert "broken: run.json: not the record of a run of this vaectl" in err
    rows = json.loads(vaectl("runs", "z*", "--json", "--sort", "name").out)["runs"]
    assert [row["name"] for row in rows] == ["z2", "z5"]
    assert rows[1]["best_quantity"] == "elbo"
    assert rows[1]["best_score"] < 0
    best = json.loads(vaectl("runs", "z*", "--json", "--sort", "elbo").out)["runs"]
    assert best[0]["best_score"] > best[1]["best_score"]


@pytest.mark.parametrize("score", [-1.0, -1000.0])
def test_a_bound_that_is_no_elbo_is_not_called_one(
    score: float, vaectl: Vaectl, runs: Path
) -> None:
    """Whichever is higher, they do not compare."""
    _change_record(runs / "z2", best={"epoch": 2, "quantity": "iwae", "score": score})
    rows = json.loads(vaectl("runs", "--json", "--sort", "elbo").out)["runs"]
    assert [(r["name"], r["best_quantity"]) for r in rows] == [("z5", "elbo"), ("z2", "iwae")]
    assert rows[1]["best_score"] == score
    lines = vaectl("runs").out.splitlines()
    listed = {line.split()[0]: line for line in lines if line.strip()}
    assert f"{score:.2f} (IWAE)" in listed["z2"]
    assert "IWAE" not in listed["z5"]
    run = RunDir(runs / "z2")
    result = Result(run.path, run.read_record(), *run.read_metrics()[-2:])
    assert f", best IWAE {score:.2f} at epoch 2\n" in result.summary()


def test_no_runs_are_an_empty_table(vaectl: Vaectl) -> None:
    code, out, _ = vaectl("runs")
    assert code == 0
    assert "no runs in runs" in out


def test_a_file_is_no_place_for_runs(vaectl: Vaectl) -> None:
    Path("file").write_text("")
    code, out, err = vaectl("runs", "--runs-dir", "file")
    assert (code, out) == (4, "")
    assert err.startswith("error: file: cannot be read: Not a directory\ntry:   ")


def test_a_run_has_a_name_from_inside_too(
    vaectl: Vaectl, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs / "z2")
    code, out, _ = vaectl("evaluate", ".", "--importance-samples", 0)
    assert code == 0
    assert out.startswith("z2, epoch 3: test split")


def test_a_run_is_found_by_name_by_path_and_as_the_latest(vaectl: Vaectl, runs: Path) -> None:
    assert runs.is_dir()
    for run in ("z5", "runs/z5", runs / "z5", "latest"):
        assert vaectl("sample", run, "--count", 1).out.endswith("z5/figures/sample.png\n")
    assert vaectl("sample", "z5", "--runs-dir", runs, "--count", 1).code == 0


def test_what_is_no_whole_run_is_told_as_it_is_listed(vaectl: Vaectl, runs: Path) -> None:
    (shutil.copytree(runs / "z2", runs / "hand") / "run.json").unlink()
    for command in (("sample", "hand"), ("curves", "hand"), ("sample", "runs/hand")):
        answer = vaectl(*command)
        assert answer.code == 4
        assert "runs/hand: not a run that can be used: run.json: cannot be read" in answer.err
        assert "did you mean" not in answer.err


def test_a_file_that_cannot_be_written_is_not_to_be_restored(vaectl: Vaectl, runs: Path) -> None:
    assert runs.is_dir()
    answer = vaectl("sample", "z2", "--count", 1, "--out", "gone/a.png")
    assert "try:   check the path, or make its directory first" in answer.err


def test_one_image_has_no_other_to_become(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = package.load(runs / "z2")
    split = model.split("test")
    one = split._replace(images=split.images[:1], labels=None)
    monkeypatch.setattr(model, "split", lambda _: one)
    how: Any = {"space": "both", "path": "linear", "from_mean": True, "seed": 0}
    with pytest.raises(DataError, match="one test image is too few to morph") as refused:
        look.morph(model, pairs=(), **how)
    assert "data.test_size" in refused.value.hint
    assert look.morph(model, pairs=[(0, 0)], **how).arrays["pairs"].tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (("sample", "nothing"), 4, "nothing: no run of that name in runs"),
        (("sample", 300 * "a"), 4, "aaa: no run of that name in runs"),
        (("sample", "z2", "--checkpoint", "77"), 4, "no checkpoint 77"),
        (("sample", "z2", "--out", "a.jpg"), 2, "--out a.jpg: "),
        (("sample", "z2", "--out", "gone/a.png"), 4, "gone: cannot be written"),
        (("sample", "z2", "--save-arrays", "gone/a.npz"), 4, "gone/a.npz: cannot be written"),
        (("sample", "z2", "--save-arrays", "a.txt"), 2, "--save-arrays a.txt: not a NumPy"),
        (("manifold", "z5", "--dims", "1", "5"), 2, "--dims 5: out of range"),
        (("manifold", "z5", "--dims", "1", "1"), 2, "a plane has two different dimensions"),
        (("manifold", "z5", "--anchor", "120"), 2, "--anchor 120: out of range"),
        (("morph", "z5", "--pairs", "0:120"), 2, "--pairs 120: out of range"),
        (("morph", "z5", "--pairs", "0-1"), 2, "--pairs 0-1: not two indices"),
        (("reconstruct", "z2", "--count", "121"), 2, "--count 121: the test split has 120 images"),
        (("manifold", "z2", "--range", "1,2,3"), 2, "--range 1,2,3: not a range"),
        (("manifold", "z2", "--range", "2,1"), 2, "--range 2,1: not a range"),
        (("manifold", "z2", "--range", "nan"), 2, "--range nan: not a range"),
        (("sample", "z2", "--width", "wide"), 2, "--width wide: not a width"),
        (("sample", "z2", "--animate"), 4, "runs/z2: one checkpoint makes no animation"),
        (
            ("sample", "z2", "--animate", "--out", "a.png"),
            2,
            "--out a.png: not a format of animations",
        ),
        (("curves", "z2", "--term", "elbow"), 2, "--term elbow: no curve of that name"),
        (("curves", "z2", "--from", "4"), 2, "--from 4: the last epoch is 3"),
        (("curves", "z2", "z5"), 2, "curves of 2 runs belong to none of them"),
        (("curves", "z2", "--out", "a.gif"), 2, "--out a.gif: not a format of figures"),
        (("evaluate", "latest", "--runs-dir", "empty"), 4, "empty: no runs in it"),
        (("evaluate", "z2", "--importance-samples", "3000000000"), 2, "--importance-samples"),
        (("evaluate", "z2", "--samples", "3000000000"), 2, "--samples"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_shown_is_answered_with_what_to_try(
    vaectl: Vaectl, runs: Path, command: tuple[str, ...], code: int, message: str
) -> None:
    assert runs.is_dir()
    answer = vaectl(*command)
    assert (answer.code, answer.out) == (code, "")
    assert f"error: {message}" in answer.err or message in answer.err
    assert "Traceback" not in answer.err


def test_a_run_without_checkpoints_says_so(vaectl: Vaectl, runs: Path) -> None:
    shutil.rmtree(runs / "z2" / "checkpoints")
    answer = vaectl("sample", "z2")
    assert answer.code == 4
    assert "runs/z2: it has no complete checkpoint" in answer.err


@pytest.mark.parametrize("seal", ["with its JSON", "alone"])
@pytest.mark.parametrize("wanted", ["best", "latest"])
def test_a_checkpoint_that_was_deleted_is_named_and_no_other_taken(
    wanted: str, seal: str, vaectl: Vaectl, runs: Path
) -> None:
    run = RunDir(runs / "z5")
    experiment.resume(run, run.read_config().model_copy(update={"epochs": 5}), extend=True)
    infos = saved.kept(run.checkpoints)
    lost = saved.best(infos) if wanted == "best" else infos[-1]
    assert lost is not None
    other = next(info for info in infos if info != lost)
    shutil.rmtree(run.checkpoints.path / str(lost.step))
    if seal == "with its JSON":
        (run.checkpoints.path / f"{lost.step}.json").unlink()
    for command in ("sample", "evaluate", "reconstruct"):
        answer = vaectl(command, "z5", "--checkpoint", wanted)
        assert (answer.code, answer.out) == (4, "")
        assert f"{lost.step}" in answer.err or f"epoch {lost.epoch}" in answer.err
        assert "\ntry:   restore it" in answer.err
    assert vaectl("sample", "z5", "--count", 1, "--checkpoint", other.epoch).code == 0


def test_a_checkpoint_of_another_configuration_is_refused(vaectl: Vaectl, runs: Path) -> None:
    file = runs / "z5" / "config.yaml"
    file.write_text(file.read_text().replace("code_size: 5", "code_size: 3"))
    _change_record(runs / "z5", settings={})  # as of an older vaectl: else that alone is refused
    answer = vaectl("sample", "z5")
    assert answer.code == 4
    assert "the checkpoint does not fit config.yaml" in answer.err
    assert "\ntry:   " in answer.err


def test_a_record_that_lost_the_shape_of_the_images_is_refused(vaectl: Vaectl, runs: Path) -> None:
    _change_record(runs / "z2", data={"source": "digits-5k", "fingerprint": "0" * 64})
    answer = vaectl("sample", "z2")
    assert answer.code == 4
    assert "run.json: not the record of a run of this vaectl: data.image_shape" in answer.err


def test_a_damaged_checkpoint_is_named(vaectl: Vaectl, runs: Path) -> None:
    (file,) = [p for p in (runs / "z2/checkpoints").rglob("*") if p.name == "_METADATA"]
    file.write_bytes(file.read_bytes()[:-1])
    answer = vaectl("sample", "z2")
    assert answer.code == 4
    assert "the checkpoint is damaged" in answer.err


def test_a_data_set_that_is_gone_or_another_one_is_refused(
    vaectl: Vaectl, runs: Path, tmp_path: Path
) -> None:
    data = RunDir(runs / "z2").read_record().data
    _change_record(runs / "z2", data={**data, "fingerprint": "0" * 64})
    answer = vaectl("evaluate", "z2")
    assert answer.code == 3
    assert "digits-5k is not the data set that z2 was trained on" in answer.err
    text = (runs / "z5" / "config.yaml").read_text()
    (runs / "z5" / "config.yaml").write_text(text.replace("digits-5k", f"idx:{tmp_path}/gone"))
    answer = vaectl("evaluate", "z5")
    assert answer.code == 3
    assert "gone: cannot be read: No such file or directory" in answer.err
    # what needs no data still works
    assert vaectl("sample", "z5", "--count", 1).code == 0


class TestApi:
    """`vaectl.load`, as the README shows it."""

    def test_a_model_encodes_decodes_samples_and_bounds(self, runs: Path) -> None:
        model = package.load(runs / "z5")
        images = model.split("test").images[:7]
        mu, log_var = model.encode(images)
        assert mu.shape == log_var.shape == (7, 5)
        assert model.decode(mu).shape == (7, 28, 28)
        assert model.decode(mu.reshape(7, 1, 5)).shape == (7, 1, 28, 28)
        assert model.sample(3).shape == (3, 28, 28)
        bound = model.elbo(images, samples=2)
        assert bound.shape == (7,)
        assert (bound < 0).all()

    def test_images_come_as_bytes_or_as_numbers_flat_or_not(self, runs: Path) -> None:
        model = package.load(runs / "z5")
        images = np.asarray(model.split("test").images[:4])
        expected = model.encode(images)[0]
        for same in (images / 255, images.reshape(4, 28, 28), (images / 255).reshape(4, 28, 28)):
            np.testing.assert_allclose(model.encode(same)[0], expected, rtol=1e-4, atol=1e-6)

    def test_many_codes_are_decoded_in_parts(
        self, runs: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = package.load(runs / "z5")
        codes = model.prior(7).reshape(7, 1, 5)
        whole = model.decode(codes)
        monkeypatch.setattr(trained, "AT_ONCE", 3)
        np.testing.assert_allclose(model.decode(codes), whole, rtol=1e-5, atol=1e-7)
        assert whole.shape == (7, 1, 28, 28)
        assert model.decode(codes[:0]).shape == (0, 1, 28, 28)

    def test_a_run_and_a_model_can_be_pickled(self, runs: Path) -> None:
        run = package.open_run(runs / "z5")
        again = sent(run)
        assert (again.path, again.config) == (run.path, run.config)
        model = run.model("latest")
        copies = sent(model), copy.deepcopy(model)
        for same in copies:
            assert repr(same) == repr(model)
            np.testing.assert_array_equal(same.sample(3, seed=1), model.sample(3, seed=1))

    def test_seeds_that_are_none_are_refused(self, runs: Path) -> None:
        model = package.load(runs / "z5")
        for seed in (-1, 2**32):
            for origin in ("prior", "aggregate"):
                with pytest.raises(ValueError, match=f"the seed {seed}"):
                    model.codes(2, seed=seed, origin=origin)

    def test_shapes_that_do_not_fit_are_refused(self, runs: Path) -> None:
        model = package.load(runs / "z5")
        with pytest.raises(ValueError, match="no images"):
            model.encode(np.zeros((0, 28, 28)))
        with pytest.raises(ValueError, match="images of shape"):
            model.encode(np.zeros((3, 27, 28)))
        with pytest.raises(ValueError, match="the last axis must be 5"):
            model.decode(np.zeros((3, 4)))
        with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
            model.encode(np.full((3, 28, 28), 255.0))
        with pytest.raises(ValueError, match="0 samples"):
            model.elbo(np.zeros((3, 28, 28)), samples=0)
        with pytest.raises(ValueError, match="-1 codes"):
            model.sample(-1)

    def test_more_than_fits_is_refused_whichever_way_it_is_asked_for(
        self, runs: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = package.load(runs / "z5")
        monkeypatch.setattr(devices, "memory_of", lambda _: 2**24)
        with pytest.raises(ConfigError, match="3 images at once, 1,000,000 samples of each: this"):
            model.elbo(np.zeros((3, 28, 28)), samples=10**6)
        with pytest.raises(ConfigError, match="1,000,000,000 images at once: this"):
            model.prior(10**9)

    @pytest.mark.parametrize("wanted", ["latest", "best"])
    def test_a_checkpoint_that_a_training_removes_just_now_is_not_damaged(
        self, wanted: str, runs: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = RunDir(runs / "z5")
        longer = run.read_config().model_copy(update={"epochs": 5})
        experiment.resume(run, longer, extend=True)
        run.write_record(run.read_record().model_copy(update={"status": "running"}))
        kept, restore = saved.kept(run.checkpoints), Checkpoints.restore
        chosen: list[Info] = []

        def remove_first(restoring: Checkpoints, info: Info, like: TrainState) -> TrainState:
            if not chosen:
                others = {other.step for other in kept} - {info.step}
                saved.keep_only(run.checkpoints, others)
            chosen.append(info)
            return restore(restoring, info, like)

        monkeypatch.setattr(Checkpoints, "restore", remove_first)
        assert package.load(run.path, wanted).checkpoint == chosen[1] != chosen[0]

    def test_errors_are_vaectls_own(self, runs: Path) -> None:
        with pytest.raises(RunError, match="no run of that name") as error:
            package.load(runs / "nothing")
        assert "vaectl" in error.value.hint
        assert issubclass(DataError, Exception)
        assert package.load(runs / "z5", 4).checkpoint.epoch == 4


def test_a_comparison_where_a_run_is_wanted_is_told_apart(vaectl: Vaectl, runs: Path) -> None:
    (runs / "c" / "trials").mkdir(parents=True)
    for file, kind in (("", "study"), ("comparison.yaml", "comparison"), ("sweep.yaml", "sweep")):
        if file:
            (runs / "c" / file).touch()
        answer = vaectl("sample", "c")
        assert answer.code == 4
        assert f"runs/c: a {kind}, not a run" in answer.err
        (runs / "c" / file).unlink() if file else None
    (runs / "z2").rename(runs / "c" / "base-s0")
    for told in ({"best": {"run": "runs/c/base-s0"}}, {"sides": [{"best_run": "runs/c/base-s0"}]}):
        assert "c/base-s0" in vaectl("sample", "c").err
        (runs / "c" / "summary.json").write_text(json.dumps(told))
        assert "c/best" in vaectl("sample", "c").err
        assert find("c/best", Path("runs")).path == Path("runs/c/base-s0")
        (runs / "c" / "summary.json").write_text("{}")
    assert vaectl("sample", "c/best").code == 4


def test_curves_of_a_run_without_epochs_are_refused(vaectl: Vaectl, runs: Path) -> None:
    (runs / "z2" / "metrics.csv").write_text("epoch,step,split,elbo,kl,nll,seconds\n")
    answer = vaectl("curves", "z2")
    assert answer.code == 4
    assert "no epochs to draw" in answer.err
