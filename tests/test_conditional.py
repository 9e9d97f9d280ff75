"""A model that is told the classes of images."""

import dataclasses
import json
from io import BytesIO
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

import vaectl as package
from tests.browser import browser, needs_chromium
from tests.conftest import Vaectl, assert_equal_runs, cut_off
from vaectl import config, data
from vaectl.config import meaning, reading
from vaectl.data.arrays import Split
from vaectl.data.stored import Stored
from vaectl.evaluation import likelihoods
from vaectl.explorer import page as pages
from vaectl.likelihoods.bernoulli import Bernoulli
from vaectl.models.conv import Conv
from vaectl.models.mlp import MLP
from vaectl.objectives.elbo import ELBO
from vaectl.pictures import style as styles
from vaectl.pictures import views
from vaectl.priors.standard_normal import StandardNormal
from vaectl.vae.vae import VAE

SMALL = (
    *("--epochs", "3", "--code-size", "2", "--hidden-size", "32", "--batch-size", "100", "-q"),
    *("--set", "model.condition=label", "--set", "data.train_size=600"),
    *("--set", "data.validation_size=60", "--set", "data.test_size=40"),
    *("--set", "checkpoint.every=1"),
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a conditional run."""
    from vaectl import experiment

    small = {
        "epochs": 12,
        "batch_size": 50,
        "model": {"code_size": 2, "hidden_size": 64, "condition": "label"},
        "data": {"train_size": 2000, "validation_size": 100, "test_size": 60},
        "optimizer": {"learning_rate": 0.005},
    }
    folder = tmp_path_factory.mktemp("told")
    return experiment.run(reading.of_mapping(small), runs_dir=folder, name="told").path


@pytest.mark.parametrize("model", [MLP(hidden_size=6), Conv(channels=3)], ids=repr)
def test_the_encoder_and_the_decoder_use_the_class(model: MLP | Conv) -> None:
    vae = VAE(model, Bernoulli(), StandardNormal(), 3, (6, 5, 1), classes=4)
    network = vae.network(vae.init(jax.random.key(0)))
    x = jax.random.uniform(jax.random.key(1), (2, 6, 5, 1))
    one, other = (network.given(jax.nn.one_hot(jnp.array(y), 4)) for y in ([0, 1], [2, 1]))
    assert (one.encode(x)[0][0] != other.encode(x)[0][0]).any()
    np.testing.assert_allclose(one.encode(x)[0][1], other.encode(x)[0][1], rtol=1e-6)
    z = jax.random.normal(jax.random.key(2), (5, 2, 3))
    decoded, changed = one.decode(z), other.decode(z)
    assert decoded.shape == (5, 2, 6, 5, 1, 1)
    assert (decoded[:, 0] != changed[:, 0]).any()
    np.testing.assert_allclose(decoded[:, 1], changed[:, 1], rtol=1e-6)
    _, terms = ELBO().terms(one, x, z, jnp.float32(0))
    assert terms["nll"].shape == (2,)


def test_a_class_stands_behind_the_pixels_and_behind_the_code() -> None:
    """As a number of mean square 1; parameters that were saved keep their meaning."""
    vae = VAE(MLP(hidden_size=6), Bernoulli(), StandardNormal(), 3, (2, 3, 1), classes=4)
    variables = vae.init(jax.random.key(0))
    y = jax.nn.one_hot(jnp.array([2, 0]), 4)
    network = vae.network(variables).given(y)

    def by_hand(side: str, last: str, numbers: jax.Array) -> np.ndarray:
        hidden, outputs = variables[side]["hidden"], variables[side][last]
        h = np.maximum(np.hstack([numbers, 2 * y]) @ hidden["kernel"] + hidden["bias"], 0)
        return np.asarray(h @ outputs["kernel"] + outputs["bias"])

    x = jax.random.uniform(jax.random.key(1), (2, 2, 3, 1))
    mu, log_var = network.encode(x)
    expected = by_hand("encoder", "heads", x.reshape(2, 6))
    np.testing.assert_allclose(np.hstack([mu, log_var]), expected, rtol=1e-5, atol=1e-6)
    decoded = network.decode(mu).reshape(2, 6)
    np.testing.assert_allclose(decoded, by_hand("decoder", "logits", mu), rtol=1e-5, atol=1e-6)


def test_bounds_are_of_each_image_given_its_own_class() -> None:
    """In every batch, from rows with classes and from images with weights of them."""
    vae = VAE(MLP(hidden_size=4), Bernoulli(), StandardNormal(), 2, (2, 3, 1), classes=3)
    variables = jax.tree.map(lambda leaf: 2 * leaf, vae.init(jax.random.key(0)))
    rng = np.random.default_rng(0)
    count = likelihoods.IMPORTANCE_BATCH + 5
    pixels, classes = rng.integers(256, size=(count, 6)), rng.integers(3, size=(count, 1))

    assert vae.row == 7
    np.testing.assert_array_equal(vae.first_class(2), [[1, 0, 0], [1, 0, 0]])
    assert dataclasses.replace(vae, classes=0).first_class(2) is None

    def bounds(classes: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        rows = np.hstack([pixels, classes]).astype(np.uint8)
        found = likelihoods.likelihoods(
            vae, variables, rows, samples=1, importance_samples=5, seed=3
        )
        flat, y = vae.apart(jnp.asarray(rows))
        return found.iw, likelihoods.weighted_bounds(vae, variables, vae.unit(flat), y, 5, 3)

    found, again = bounds(classes)
    assert found is not None
    np.testing.assert_allclose(again, found, rtol=1e-5)
    classes[[1, -1]] = (classes[[1, -1]] + 1) % 3
    for one, other in zip((found, again), bounds(classes), strict=True):
        np.testing.assert_array_equal(np.flatnonzero(one != other), [1, count - 1])


def test_a_row_has_its_class_at_its_end_in_memory_and_on_disk() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(4, 3, 2, 1)
    labels = np.array([3, 0, 2, 1], np.int32)
    stored = Stored(lambda places: images[places], range(4), (3, 2, 1), images.dtype)
    for split in (Split(images, labels), Split(stored, labels)):
        rows = np.asarray(split.rows(labelled=True))
        np.testing.assert_array_equal(rows[:, :-1], images.reshape(4, 6))
        np.testing.assert_array_equal(rows[:, -1], labels)
        part = np.asarray(split.rows(labelled=True)[1:3])
        np.testing.assert_array_equal(part, rows[1:3])
        assert np.asarray(split.rows(labelled=False)).shape == (4, 6)


def test_samples_of_a_class_are_of_that_class(told: Path) -> None:
    """By the nearest mean of a class in the data."""
    model = package.load(told)
    dataset = model.dataset()
    flat, labels = np.asarray(dataset.train.flat) / 255, dataset.train.labels
    assert labels is not None
    means = np.stack([flat[labels == label].mean(axis=0) for label in range(10)])
    asked = np.repeat(np.arange(10), 20)
    drawn = model.sample(200, labels=asked, seed=1).reshape(200, -1)
    found = ((drawn[:, None] - means) ** 2).sum(axis=-1).argmin(axis=1)
    assert (found == asked).mean() > 0.7
    np.testing.assert_array_equal(model.sample(3), model.sample(3, labels=np.arange(3)))


def test_weights_of_classes_lie_between_them(told: Path) -> None:
    model = package.load(told)
    z = np.zeros((1, 2), np.float32)
    half = np.zeros((1, 10), np.float32)
    half[0, [0, 1]] = 0.5
    ends = [model.decode(z, np.array([label])) for label in (0, 1)]
    assert (model.decode(z, half) != ends[0]).any()
    assert (model.decode(z, half) != ends[1]).any()


def test_a_run_resumes_streams_and_shares_its_batch_with_the_same_numbers(
    vaectl: Vaectl,
) -> None:
    assert vaectl("train", *SMALL, "--name", "whole").code == 0
    cut_off(Path("runs/whole"), Path("runs/cut"), epoch=2)
    assert vaectl("train", "--resume", "cut", "-q").code == 0
    assert_equal_runs(Path("runs/whole"), Path("runs/cut"))
    for name, more in {
        "streamed": ("--stream",),
        "disk": ("--set", "data.memory_gb=0"),
        "parts": ("--set", "microbatches=4"),
    }.items():
        assert vaectl("train", *SMALL, *more, "--name", name).code == 0
        whole, other = (package.open_run(f"runs/{run}").metrics for run in ("whole", name))
        np.testing.assert_allclose(whole["elbo"], other["elbo"], rtol=1e-4)


@pytest.mark.parametrize(
    "command",
    [
        ("sample", "--label", "3", "--count", "9"),
        pytest.param(("sample",), marks=pytest.mark.full),
        ("sample", "--from", "aggregate", "--label", "1"),
        pytest.param(("morph", "--rows", "2"), marks=pytest.mark.full),
        ("morph", "--rows", "2", "--classes", "keep"),
        pytest.param(("manifold", "--grid", "4", "--label", "2"), marks=pytest.mark.full),
        ("manifold", "--grid", "3", "--anchor", "1", "--range", "posterior"),
        pytest.param(("reconstruct", "--count", "5"), marks=pytest.mark.full),
        ("inspect",),
        ("explore",),
        ("evaluate", "--importance-samples", "4", "--prior-samples", "20", "-q"),
        (
            "diagnose",
            "--images",
            "6",
            "--chains",
            "2",
            "--temperatures",
            "9",
            "--prior-samples",
            "9",
        ),
        pytest.param(("export", "--format", "safetensors"), marks=pytest.mark.full),
        ("export", "--format", "card"),
    ],
    ids=" ".join,
)
def test_it_is_looked_at(command: tuple[str, ...], told: Path, vaectl: Vaectl) -> None:
    name, *options = command
    answer = vaectl(name, told, *options)
    assert answer.code == 0, answer.err


def test_a_morph_ends_at_the_class_of_its_last_image_or_keeps_that_of_its_first(
    told: Path, vaectl: Vaectl, tmp_path: Path
) -> None:
    model = package.load(told)
    split = model.split("test")
    assert split.labels is not None
    other = int(np.flatnonzero(split.labels != split.labels[0])[0])
    ends = {}
    for classes in ("change", "keep"):
        file = tmp_path / f"{classes}.npz"
        pair = ("--pairs", f"0:{other}", "--from-mean", "--classes", classes)
        assert vaectl("morph", told, *pair, "--save-arrays", file).code == 0
        with np.load(file) as saved:
            arrays = dict(saved)
        ends[classes] = arrays["latent_space"][0, -1]
        z = arrays["z"][0, -1:]
        label = split.labels[other if classes == "change" else 0]
        np.testing.assert_allclose(ends[classes], model.decode(z, np.array([label]))[0], atol=1e-6)
    assert np.abs(ends["change"] - ends["keep"]).max() > 0.1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("sample", "TOLD", "--label", "10"), 2, "--label 10"),
        (("sample", "UNTOLD", "--label", "1"), 2, "was not told classes"),
        (("train", "--set", "model.condition=label", "--prior", "vamp"), 2, "vamp"),
        (("train", "--set", "model.condition=class"), 2, "model.condition"),
    ],
)
def test_what_does_not_go_together_is_refused(
    arguments: tuple[str, ...], code: int, said: str, told: Path, trained_runs: Path, vaectl: Vaectl
) -> None:
    places = {"TOLD": told, "UNTOLD": trained_runs / "z2"}
    answer = vaectl(*(places.get(each, each) for each in arguments))
    assert answer.code == code
    assert said in answer.err


@pytest.mark.parametrize(
    "arrays",
    [
        {"y_train": np.arange(90) % 3},
        {"y_train": np.arange(90) % 3 - 1, "y_test": np.arange(40) % 3},
        {"x_val": None, "y_train": np.arange(90) % 3, "y_test": np.arange(40) % 3},
    ],
    ids=["one split", "below zero", "validation"],
)
def test_images_some_of_which_have_no_class_are_refused(
    arrays: dict[str, np.ndarray | None], vaectl: Vaectl, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (90, 4, 4), np.uint8)
    given = {name: images[:20] if array is None else array for name, array in arrays.items()}
    np.savez(tmp_path / "x.npz", x_train=images, x_test=images[:40], **given)  # type: ignore[arg-type]
    sizes = ("--set", "data.train_size=20", "--set", "data.validation_size=20")
    source = ("--set", f"data.source=npz:{tmp_path / 'x.npz'}")
    answer = vaectl("train", *SMALL, *source, *sizes)
    assert answer.code == 3
    assert "class" in answer.err
    assert vaectl("train", *SMALL, *source, *sizes, "--set", "model.condition=none").code == 0


ODD = "s$_{<b>\N{CJK UNIFIED IDEOGRAPH-732B}"
"""The name of a folder that is no formula and no mark-up, with a letter that fonts lack."""


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a conditional run whose classes have names."""
    from vaectl import experiment

    folder = tmp_path_factory.mktemp("named")
    bright = {"circles": 200, "a rather long name of a class": 90, ODD: 30}
    draw = np.random.default_rng(0)
    for name, level in bright.items():
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(20):
            pixels = draw.integers(level, level + 50, (6, 6), np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / name / f"{number}.png")
    small = {
        "epochs": 1,
        "batch_size": 10,
        "model": {"code_size": 2, "hidden_size": 8, "condition": "label"},
        "data": {"source": f"images:{folder / 'pictures'}", "binarization": "none"},
    }
    return experiment.run(reading.of_mapping(small), runs_dir=folder, name="named").path


def test_a_class_is_asked_for_and_told_by_its_name(named: Path, vaectl: Vaectl) -> None:
    model = package.load(named)
    assert model.class_names == ("a rather long name of a class", "circles", ODD)
    for command, *options in (("sample", "--count", 4), ("manifold", "--grid", 3)):
        for label in ("circles", "1"):
            files = ("--out", f"{command}{label}.svg", "--save-arrays", f"{command}{label}.npz")
            answer = vaectl(command, named, *options, "--label", label, *files)
            assert answer.code == 0, answer.err
        with np.load(f"{command}circles.npz") as one, np.load(f"{command}1.npz") as other:
            np.testing.assert_array_equal(one["images"], other["images"])
    answer = vaectl("sample", named, "--label", ODD)
    assert answer.code == 0, answer.err
    assert vaectl("inspect", named).code == 0
    drawn = views.sample(model, label=1, count=4, temperature=1.0, draw="mean", seed=0).figure
    assert isinstance(drawn, Figure)
    texts = [found.get_text() for found in drawn.findobj(Text)]
    assert any("of class circles from" in text for text in texts)


def test_an_export_brings_its_classes_and_their_names_along(
    named: Path, vaectl: Vaectl, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    answer = vaectl("export", named, "--format", "safetensors,card", "--output", out)
    assert answer.code == 0, answer.err
    card = (out / "card.md").read_text()
    assert "label: int32" in card
    assert "1 circles" in card
    assert vaectl("import", out / "model.safetensors", "--name", "copy").code == 0
    ours, theirs = package.load("copy"), package.load(named)
    assert (ours.vae, ours.class_names) == (theirs.vae, theirs.class_names)
    jax.tree.map(np.testing.assert_array_equal, ours.variables, theirs.variables)
    labels = np.array([2, 0])
    np.testing.assert_array_equal(
        ours.sample(2, labels=labels), theirs.sample(2, labels=labels), strict=True
    )
    answer = vaectl("sample", "copy", "--label", "circles", "--count", "4")
    assert answer.code == 0, answer.err


@pytest.mark.parametrize(
    ("label", "said"),
    [("circels", "did you mean circles?"), ("3", "0 to 2"), ("-1", "0 to 2"), ("x", "circles")],
)
def test_a_class_that_there_is_not_is_refused(
    label: str, said: str, named: Path, vaectl: Vaectl
) -> None:
    answer = vaectl("sample", named, "--label", label)
    assert answer.code == 2
    assert said in answer.err


@pytest.mark.filterwarnings("ignore:Glyph .* missing")  # the test asks for sizes, too
@pytest.mark.parametrize("width", [None, "column"])
def test_the_names_of_classes_stand_in_the_legend(width: str | None, named: Path) -> None:
    style = styles.parse(width=width)
    figure = views.inspect(package.load(named), split_name="train", seed=0, style=style).figure
    assert isinstance(figure, Figure)
    figure.savefig(BytesIO(), format="png")
    (legend,) = [
        found
        for axes in figure.axes
        if (found := axes.get_legend()) and "1 circles" in [t.get_text() for t in found.get_texts()]
    ]
    entries = [text.get_text() for text in legend.get_texts()]
    assert entries == ["0 a rather long...", "1 circles", f"2 {ODD}"]
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y0 >= 0


def test_the_page_offers_classes_by_name(named: Path, tmp_path: Path) -> None:
    made = pages.explore([named], output=tmp_path / "page.html", count=12)
    assert '"classNames": ["a rather long name of a class", "circles"' in made.path.read_text()


def test_bounds_given_the_class_do_not_compare_with_others() -> None:
    plain, given = (
        reading.of_mapping({"model": {"condition": condition}}) for condition in ("none", "label")
    )
    for say in (meaning.meaning, meaning.measured):
        assert say(given) == f"{say(plain)}, given the class"


def test_codes_of_a_class_are_those_of_its_images(told: Path) -> None:
    model = package.load(told)
    split = model.split("train")
    assert split.labels is not None
    of_class = np.flatnonzero(split.labels == 3)
    codes = model.codes(len(of_class), origin="aggregate", label=3, temperature=0.0)
    means, _ = model.encode(np.asarray(split.images[of_class]), split.labels[of_class])
    np.testing.assert_allclose(np.sort(codes, axis=0), np.sort(means, axis=0), atol=1e-5)


@needs_chromium
def test_the_page_tells_the_model_a_class(told: Path, tmp_path: Path) -> None:
    made = pages.explore([told], output=tmp_path / "page.html", count=12)
    (tmp_path / "profile").mkdir()
    with browser(tmp_path / "profile") as chromium:
        chromium.open(made.path)
        images = chromium.ask(TELL)
        assert chromium.errors == []
    model = package.load(told)
    z = np.array([[0.4, -0.3]], np.float32)
    for label, image in zip((3, 8), images["decoded"], strict=True):
        np.testing.assert_allclose(
            image, model.decode(z, np.array([label])).ravel(), rtol=0, atol=1e-4
        )
    split = model.split("test")
    assert split.labels is not None
    assert images["first"] == split.labels[0]
    assert images["options"] == 10
    # an image that is taken to the pad brings its class along
    assert images["taken"] == images["label"]


TELL = """
  const wait = () => new Promise(done => setTimeout(done, 250));
  const chooser = document.getElementById("class"), decoded = [];
  const found = { first: +chooser.value, options: chooser.options.length, decoded };
  for (const label of [3, 8]) {
    chooser.value = label;
    chooser.dispatchEvent(new Event("change"));
    await wait();
    app.z.set([0.4, -0.3]);
    decoded.push([...app.model.decode(app.z)]);
  }
  const buttons = [...document.querySelectorAll("#draw button")];
  const next = buttons.find(button => button.ariaLabel?.startsWith("next"));
  next.click();
  await wait();
  return { ...found, taken: +chooser.value, label: app.model.sets[0].label(1) };
"""


FOLLOW = """
  const wait = ms => new Promise(done => setTimeout(done, ms));
  const morphs = () => [...document.querySelectorAll(".strip canvas")].map(e => e.toDataURL());
  let decoded = 0;
  const { decode } = app.model, before = morphs();
  await wait(1000);
  app.model.decode = z => { decoded++; return decode.call(app.model, z); };
  app.tell((app.model.class + 1) % 10);
  for (let i = 0; i < 200 && decoded < 300; i++) await wait(100);
  const after = morphs();
  return { morphed: after.map((picture, i) => picture !== before[i]), decoded };
"""


@needs_chromium
def test_all_that_is_decoded_follows_the_class(told: Path, tmp_path: Path) -> None:
    made = pages.explore([told], output=tmp_path / "page.html", count=12)
    (tmp_path / "profile").mkdir()
    with browser(tmp_path / "profile") as chromium:
        chromium.open(made.path)
        found = chromium.ask(FOLLOW)
        assert chromium.errors == []
    assert found["morphed"] == [False] * 9 + [True] * 9
    assert found["decoded"] >= 300  # with the images of the plane


def _edited(page: Path, *runs: dict[str, object]) -> Path:
    """Write a page of several runs, each of them the one of a page with changes."""
    before, begin, rest = page.read_text().partition('id="data">')
    data, end, after = rest.partition("</script>")
    [run] = json.loads(data)["runs"]
    changed = json.dumps({"runs": [{**run, **changes} for changes in runs]}).replace("<", "\\u003c")
    if len(runs) > 1:
        section = '<section id="gallery"><div class="body"></div></section></main>'
        before = before.replace("</main>", section)
    edited = page.with_name("edited.html")
    edited.write_text(before + begin + changed + end + after)
    return edited


NAMES = """
  const marks = new Set(), write = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
    if (this.textBaseline === "middle") marks.add(text);
    write.call(this, text, ...rest);
  };
  document.querySelectorAll(".options input")[2].click();
  document.querySelectorAll(".options input")[2].click();
  const text = selector => [...document.querySelectorAll(selector)].map(e => e.textContent);
  return { marks: [...marks].sort(), legend: text(".legend button"), options: text("#class option"),
    title: app.model.sets[0].title(0), label: app.model.sets[0].label(0) };
"""


@needs_chromium
def test_the_page_shows_names_of_classes(named: Path, tmp_path: Path) -> None:
    page = pages.explore([named], output=tmp_path / "page.html", split="train").path
    long, short = ["a rather long name of a class", "circles", ODD], ["1", "10", "2"]
    (tmp_path / "profile").mkdir()
    with browser(tmp_path / "profile") as chromium:
        chromium.open(page)
        found = chromium.ask(NAMES)
        assert found["marks"] == ["0", "1", "2"]
        assert found["legend"] == found["options"] == [f"{k} {name}" for k, name in enumerate(long)]
        assert found["title"].endswith(f", class {long[found['label']]}")
        chromium.open(_edited(page, {"classNames": short}))
        found = chromium.ask(NAMES)
        assert found["marks"] == found["legend"] == found["options"] == short
        assert found["title"].endswith(f", class {short[found['label']]}")
        assert chromium.errors == []


@needs_chromium
def test_a_gallery_tells_a_model_only_classes_that_it_knows(told: Path, tmp_path: Path) -> None:
    page = pages.explore([told], output=tmp_path / "page.html", count=12).path
    data = json.loads(page.read_text().partition('id="data">')[2].partition("</script>")[0])
    sets = data["runs"][0]["sets"]
    strange = [{**each, "labels": [*each["labels"][:-1], 10]} for each in sets]
    bare = [{**each, "labels": None} for each in sets]
    (tmp_path / "profile").mkdir()
    with browser(tmp_path / "profile") as chromium:
        for images, count in ((sets, 3), (strange, 1), (bare, 1)):
            edited = _edited(page, {"sets": images, "name": "a"}, {"name": "b"})
            chromium.open(edited)
            text = chromium.ask("return document.querySelector('#gallery .card').innerText")
            lines = "return document.querySelectorAll('#gallery .card:first-child .line').length"
            assert chromium.ask(lines) == count
            left_out = "Left out, with classes that these images cannot tell: a, b."
            assert (left_out in text) == (count == 1)
            assert chromium.errors == []


def test_images_without_classes_are_refused(vaectl: Vaectl, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (90, 4, 4), np.uint8)
    np.savez(tmp_path / "x.npz", x_train=images, x_test=images[:40])
    source = f"data.source=npz:{tmp_path / 'x.npz'}"
    answer = vaectl("train", *SMALL, "--set", source, "--set", "data.train_size=20")
    assert answer.code == 3
    assert "class" in answer.err


def test_the_library_says_which_labels_are_needed(told: Path, trained_runs: Path) -> None:
    model, other = package.load(told), package.load(trained_runs / "z2")
    images = np.zeros((2, 28, 28), np.uint8)
    for labels in (None, np.array([0, 10]), np.array([0]), np.zeros((2, 9), np.float32)):
        with pytest.raises(ValueError, match=r"label|classes"):
            model.encode(images, labels)
    with pytest.raises(ValueError, match="not conditional"):
        other.encode(np.zeros((2, *other.picture_shape), np.uint8), np.array([0, 1]))


def test_the_record_has_the_classes_and_the_settings_have_the_condition(told: Path) -> None:
    assert json.loads((told / "run.json").read_text())["data"]["classes"] == 10
    assert data.load(config.Config().data).classes == 10
    assert package.load(told).vae.classes == 10
