"""Exports: every format holds what the run computes, or is not kept; imports, and bad files."""

import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy

import vaectl as package
from tests.conftest import Vaectl
from tests.test_bad_arguments import ODD_NAME
from tests.test_contracts import EXPORTS, LIKELIHOODS, MODELS
from vaectl import config, export, importing
from vaectl.base.errors import ConfigError, RunError
from vaectl.config import documents
from vaectl.export import BATCHES, Differences
from vaectl.exports import base
from vaectl.exports.base import FOLDER, Coders, Export, Files, named
from vaectl.exports.safetensors import KEY
from vaectl.likelihoods.base import Likelihood
from vaectl.models.base import Model
from vaectl.models.mlp import MLP
from vaectl.runs.directory import RunDir
from vaectl.runs.saved import kept
from vaectl.runs.trained import Trained, load
from vaectl.training.program import Program

MANUAL = Path(__file__).parent.parent / "vaectl" / "exports" / "README.md"
FUNCTIONS = {"encoder", "decoder", "model"}
"""The files that compute something."""


@pytest.fixture(autouse=True)
def _compare_two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program is compiled for each size of a batch."""
    assert {1, 7} < {*BATCHES}
    monkeypatch.setattr(export, "BATCHES", (1, 7))


def untrained(
    folder: Path, model: Model, likelihood: Likelihood, *, code_size: int = 3, classes: int = 0
) -> Trained:
    """Import drawn weights of a network, which costs no training."""
    values: dict[str, Any] = {
        kind: {"name": plug.name, plug.name: plug.model_dump(mode="json")}
        for kind, plug in (("model", model), ("likelihood", likelihood))
    }
    values["model"] |= {"code_size": code_size, "condition": "label" if classes else "none"}
    if not likelihood.binary:
        values["data"] = {"binarization": "none"}
    settings = config.Config.model_validate(values)
    vae = Program.of(settings, images=1, image_shape=(28, 28, 1), classes=classes).vae
    shapes = jax.eval_shape(lambda: named(vae.init(jax.random.key(0))))
    draw = np.random.default_rng(1).normal
    arrays = {name: draw(0, 0.1, one.shape).astype(one.dtype) for name, one in shapes.items()}
    arrays |= {name: abs(array) for name, array in arrays.items() if name.endswith(".var")}
    weights, yaml = folder / "weights.safetensors", folder / "weights.yaml"
    weights.write_bytes(safetensors.numpy.save(arrays))
    yaml.write_text(documents.dump(settings))
    return load(importing.bring(weights, config_file=yaml, runs_dir=folder / "runs", name="w"))


def _available(form: Export) -> bool:
    try:
        form.check()
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("form", EXPORTS, ids=lambda form: form.name)
def test_every_format_is_tested_here(form: Export) -> None:
    try:
        form.check()
    except ConfigError as error:
        pytest.skip(f"{error.message}: {error.hint}")


def _bits(model: Trained) -> list[np.ndarray]:
    """What a newly traced program of the run computes."""
    network = model.vae.network(model.variables)
    codes, images = model.prior(5), np.full((5, *model.image_shape), 0.25, np.float32)
    results = jax.jit(lambda z, x: (network.mean(z), *network.encode(x)))(codes, images)
    return [np.asarray(result) for result in results]


PAIRS = [(MODELS[0], LIKELIHOODS[2]), (MODELS[1], LIKELIHOODS[3]), (MODELS[2], LIKELIHOODS[1])]
REST = [(m, p) for m in MODELS[:3] for p in LIKELIHOODS if (m, p) not in PAIRS]
REST += [(m, LIKELIHOODS[0]) for m in MODELS[3:]]


@pytest.mark.parametrize(
    ("model", "likelihood"),
    [*PAIRS, *(pytest.param(*pair, marks=pytest.mark.full) for pair in REST)],
)
def test_every_format_holds_every_model(
    model: Model, likelihood: Likelihood, tmp_path: Path
) -> None:
    run = untrained(tmp_path, model, likelihood)
    before = _bits(run)
    forms = [form for form in EXPORTS if _available(form)]
    result = export.export(run, forms)
    result.check()
    assert [each.format for each in result.exported] == [form.name for form in forms]
    for form, each in zip(forms, result.exported, strict=True):
        computes = {path.stem for path in each.files} & FUNCTIONS
        assert (each.differences is not None) == bool(computes)
        assert each.differences is None or each.differences.largest <= form.tolerance <= 1e-4
        assert {path.name for path in each.files} <= {p.name for p in result.folder.iterdir()}
        for path in each.files:  # --force and removal know them
            patterns = form.leaves[FOLDER].items()
            head = path.read_bytes()[:4096]
            assert any(
                re.fullmatch(name, path.name) and re.match(begins, head, re.DOTALL)
                for name, begins in patterns
            ), path
    # a converter that replaces functions of JAX leaves none of them behind
    for ours, theirs in zip(before, _bits(run), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "model", [MODELS[0], pytest.param(MODELS[2], marks=pytest.mark.full)], ids=repr
)
def test_the_functions_of_a_conditional_model_take_the_class(model: Model, tmp_path: Path) -> None:
    run = untrained(tmp_path, model, LIKELIHOODS[0], classes=10)
    images = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
    labels = np.array([7, 0, 9], np.int32)
    mu, log_var = run.encode(images, labels)
    forms = [form for form in EXPORTS if _available(form)]
    result = export.export(run, forms)
    result.check()
    for form, each in zip(forms, result.exported, strict=True):
        coders = form.read({path.name: path.read_bytes() for path in each.files})
        if coders is None:
            continue
        for ours, theirs in zip((mu, log_var), coders.encode(images, labels), strict=True):
            np.testing.assert_allclose(theirs, ours, atol=1e-5)
        decoded = coders.decode(mu, labels)
        np.testing.assert_allclose(decoded[..., 0], run.decode(mu, labels), atol=1e-5)
        assert np.abs(coders.decode(mu, labels[::-1].copy())[0] - decoded[0]).max() > 1e-3
        # a number of no class, alone or beside others
        odd = coders.decode(mu, np.array([-1, 0, 10], np.int32))
        assert np.isnan(odd[[0, 2]]).all()
        np.testing.assert_array_equal(odd[1], decoded[1])


def _manual(what: str, also: str = "mu, log_var") -> str:
    """The lines of Python in the manual that load an export."""
    blocks = re.findall(r"```python\n(.*?)```", MANUAL.read_text(), re.DOTALL)
    (found,) = [block for block in blocks if what in block and also in block]
    return str(found)


def test_the_lines_of_the_manual_load_an_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaectl.likelihoods.bernoulli import Bernoulli

    run = untrained(tmp_path, MLP(hidden_size=6), Bernoulli())
    images = np.asarray(run.split("test").images[:7]).reshape(7, 28, 28, 1) / np.float32(255)
    mu, log_var = run.encode(images)
    forms = {"onnx": "onnxruntime", "stablehlo": "jax.export", "safetensors": "load_file"}
    for form, what in forms.items():
        (chosen,) = base.parse([form])
        if not _available(chosen):
            continue
        for name, content in chosen.write(run).items():
            (tmp_path / name).write_bytes(content)
        monkeypatch.chdir(tmp_path)
        names: dict[str, Any] = {"images": images}
        exec(_manual(what), names)  # noqa: S102  # the manual's own lines
        np.testing.assert_allclose(names["mu"], mu, atol=1e-5)
        np.testing.assert_allclose(names["log_var"], log_var, atol=1e-5)
        pixels = np.asarray(names["pixels"]).reshape(7, 28, 28)
        np.testing.assert_allclose(pixels, run.decode(mu), atol=1e-5)


def test_the_lines_of_the_manual_tell_a_decoder_the_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (onnx,) = base.parse(["onnx"])
    if not _available(onnx):
        pytest.skip("the format onnx is not installed")
    run = untrained(tmp_path, MODELS[0], LIKELIHOODS[0], code_size=20, classes=10)
    (tmp_path / "decoder.onnx").write_bytes(onnx.write(run)["decoder.onnx"])
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(_manual("onnxruntime", "labels"), names)  # noqa: S102  # the manual's own lines
    decoded = run.decode(names["z"], names["labels"])
    np.testing.assert_allclose(names["pixels"][..., 0], decoded, atol=1e-5)


class _Odd:
    """A format of one file; a test replaces what its functions add to the run's results."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Export, "known", dict(Export.known))
        self.added: Any = 0.0
        self.content = b"odd"
        self.model: Trained
        outer = self

        class Odd(Export, name="odd"):
            leaves = {FOLDER: {r"odd\.bin": rb"odd"}}  # noqa: RUF012  # a class variable

            def write(self, model: Trained) -> Files:
                outer.model = model
                return {"odd.bin": outer.content}

            def read(self, files: Files) -> Coders:
                assert files["odd.bin"] == outer.content
                return Coders(
                    lambda x: outer.model.encode(x),
                    lambda z: outer.model.decode(z)[..., np.newaxis] + outer.added,
                )

        self.form = Odd()


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> _Odd:
    return _Odd(monkeypatch)


@pytest.mark.parametrize("added", [2e-4, float("nan"), float("inf"), np.zeros((3, 1, 1, 1, 1))])
def test_an_export_that_differs_from_the_run_is_not_kept(added: Any, odd: _Odd, runs: Path) -> None:
    model, file = load(runs / "z2"), runs / "z2" / "export" / "odd.bin"
    result = export.export(model, [odd.form])
    result.check()
    assert result.exported[0].differences == Differences(0.0, 0.0)
    assert file.read_bytes() == b"odd"
    odd.added, odd.content = added, b"odd, and wrong"
    card, _ = base.parse(["card", "odd"])
    result = export.export(model, [odd.form, card])
    with pytest.raises(RunError, match="odd"):
        result.check()
    assert file.read_bytes() == b"odd"  # the earlier one stays
    assert [each.format for each in result.exported] == ["card"]  # others are not stopped
    file.unlink()
    assert not export.export(model, [odd.form]).exported
    assert not file.exists()


def test_what_a_converter_raises_is_a_message(odd: _Odd, runs: Path, vaectl: Vaectl) -> None:
    odd.added = "no number"
    answer = vaectl("export", "z2", "--format", "odd,card", "-q")
    assert answer.code == 4
    assert "z2" in answer.err
    assert "odd: " in answer.err
    assert "Traceback" not in answer.err
    assert "card" in answer.out
    assert {path.name for path in (runs / "z2" / "export").iterdir()} == {
        "card.md",
        "card-curves.png",
        "card-samples.png",
    }


@pytest.mark.usefixtures("odd")
def test_files_of_others_are_not_replaced(runs: Path, vaectl: Vaectl) -> None:
    folder = runs / "z2" / "export"
    folder.mkdir()
    (folder / "odd.bin").write_bytes(b"mine")
    answer = vaectl("export", "z2", "--format", "odd", "-q")
    assert (answer.code, (folder / "odd.bin").read_bytes()) == (4, b"mine")
    outside = runs / "outside"
    outside.mkdir()
    shutil.rmtree(folder)
    folder.symlink_to(outside)
    assert vaectl("export", "z2", "--format", "odd", "-q").code == 4
    assert not [*outside.iterdir()]
    assert vaectl("export", "z2", "--format", "odd", "-q", "--output", outside / "new").code == 0
    assert (outside / "new" / "odd.bin").exists()


def test_the_command_says_what_is_wrong(
    runs: Path, vaectl: Vaectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    typo = vaectl("export", "z2", "--format", "stablehol")
    assert typo.code == 2
    assert "stablehlo" in typo.err
    assert vaectl("export", "z2", "--format", ",").code == 2
    assert vaectl("export", "z2", "--format", "all,stablehol").err == typo.err
    assert vaectl("export", "nothing", "--format", "card").code == 4
    shutil.rmtree(runs / "z5" / "checkpoints")
    assert vaectl("export", "z5", "--format", "card").code == 4
    monkeypatch.setattr("vaectl.base.plugs.find_spec", lambda _: None)
    for name in ("onnx", "stablehlo", "all"):
        missing = vaectl("export", "z2", "--format", name)
        assert missing.code == 2
        assert "pip install 'vaectl[" in missing.err
    assert not (runs / "z2" / "export").exists()


def test_a_round_trip_gives_the_same_model(runs: Path, vaectl: Vaectl) -> None:
    answer = vaectl("export", "z2", "--format", "safetensors", "--format", "card", "--json", "-q")
    assert answer.code == 0
    told = json.loads(answer.out)
    assert [each["format"] for each in told["exports"]] == ["safetensors", "card"]
    assert told["exports"][0]["differences"] == {"encode": 0.0, "decode": 0.0}
    weights = runs / "z2" / "export" / "model.safetensors"
    architecture = json.loads((weights.parent / "model.json").read_text())
    assert architecture["image_shape"] == [28, 28, 1]
    assert architecture["arrays"]["encoder.hidden.kernel"]["shape"] == [784, 32]

    answer = vaectl("import", weights, "--name", "copy")
    assert (answer.code, answer.out) == (0, "runs/copy\n")
    ours, theirs = package.load("copy"), package.load("z2")
    jax.tree.map(np.testing.assert_array_equal, ours.variables, theirs.variables)
    np.testing.assert_array_equal(ours.sample(3), theirs.sample(3))

    evaluations = []
    for run in ("z2", "copy"):
        answer = vaectl("evaluate", run, "--importance-samples", "2", "--json", "-q")
        evaluations.append(json.loads(answer.out))
    assert evaluations[0]["elbo"] == evaluations[1]["elbo"]
    assert evaluations[1]["where"] == "imported"
    assert vaectl("sample", "copy", "--count", "4").code == 0

    listed = {row["name"]: row for row in json.loads(vaectl("runs", "--json").out)["runs"]}
    assert listed["copy"]["status"] == "imported"
    assert listed["copy"]["best_score"] is listed["copy"]["epochs"] is None
    assert "0/" not in vaectl("runs", "copy").out
    copy = package.open_run("copy")
    assert len(copy.metrics["epoch"]) == 0
    assert copy._repr_png_().startswith(b"\x89PNG")
    assert copy.record.imported is not None
    assert (copy.record.imported.name, copy.record.imported.checkpoint) == ("z2", "epoch 3")
    for command in (("train", "--resume", "copy"), ("export-log", "copy", "--to", "tensorboard")):
        refused = vaectl(*command)
        assert refused.code == 4
        assert "imported" in refused.err

    again = vaectl("export", "copy", "--format", "safetensors,card", "-q")
    assert again.code == 0
    arrays = [
        safetensors.numpy.load_file(runs / name / "export" / "model.safetensors")
        for name in ("z2", "copy")
    ]
    jax.tree.map(np.testing.assert_array_equal, *arrays)
    assert not (runs / "copy" / "export" / "card-curves.png").exists()
    assert "imported from" in (runs / "copy" / "export" / "card.md").read_text()
    # with all that it wrote, a run can be replaced
    mine = runs / "copy" / "export" / "mine.txt"
    mine.write_text("kept")
    assert vaectl("import", weights, "--name", "copy").code == 4
    answer = vaectl("import", weights, "--name", "copy", "--force")
    assert answer.code == 0
    assert "mine.txt" in answer.err
    assert [path.name for path in mine.parent.iterdir()] == ["mine.txt"]


def test_what_a_model_keeps_beside_parameters_comes_back(tmp_path: Path, vaectl: Vaectl) -> None:
    """Running means, and the keys and counters of dropout and noise."""
    model = MLP(hidden_size=4, normalization="batch", dropout=0.5, input_noise=0.1)
    run = untrained(tmp_path, model, LIKELIHOODS[0])
    export.export(run, base.parse(["safetensors"]), tmp_path / "out").check()
    assert vaectl("import", tmp_path / "out" / "model.safetensors", "--name", "copy").code == 0
    ours, theirs = (base.named(each.variables) for each in (package.load("copy"), run))
    assert {"noise.rngs.count", "encoder.hidden.layers.1.mean"} <= {*ours}
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.fixture(scope="module")
def weights(trained_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a run, where tests may read it."""
    folder = tmp_path_factory.mktemp("weights")
    export.export(load(trained_runs / "z2"), base.parse(["safetensors"]), folder).check()
    return folder / "model.safetensors"


def _edited(weights: Path, folder: Path, **changes: Any) -> Path:
    """A copy with other facts; None leaves one out."""
    arrays = safetensors.numpy.load_file(weights)
    facts = json.loads((weights.parent / "model.json").read_text())
    del facts["arrays"]
    for key, value in changes.items():
        *parents, last = key.split("__")
        section = facts
        for parent in parents:
            section = section[parent]
        section[last] = value
    path = folder / "edited.safetensors"
    path.write_bytes(safetensors.numpy.save(arrays, {KEY: json.dumps(facts)}))
    return path


HIDDEN, BIAS = "encoder.hidden.kernel", "encoder.hidden.bias"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({HIDDEN: None}, [HIDDEN, "missing"]),
        ({HIDDEN: np.zeros((784, 31), np.float32)}, [HIDDEN, "(784, 31)", "(784, 32)"]),
        ({HIDDEN: np.zeros((784, 32))}, [HIDDEN, "float64", "float32"]),
        ({"decoder.extra": np.zeros(3, np.float32)}, ["decoder.extra"]),
        ({BIAS: np.full(32, np.nan, np.float32)}, [BIAS]),
    ],
    ids=["missing", "shape", "type", "unknown", "not finite"],
)
def test_wrong_arrays_are_named(
    change: dict[str, Any], words: list[str], weights: Path, vaectl: Vaectl, tmp_path: Path
) -> None:
    arrays = {**safetensors.numpy.load_file(weights), **change}
    facts = json.loads((weights.parent / "model.json").read_text())
    file = tmp_path / "other.safetensors"
    file.write_bytes(
        safetensors.numpy.save(
            {name: array for name, array in arrays.items() if array is not None},
            {KEY: json.dumps(facts)},
        )
    )
    answer = vaectl("import", file)
    assert answer.code == 4
    assert all(word in answer.err for word in words)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"config__model__code_size": 3}, 4),
        ({"image_shape": [0, 28, 1]}, 4),
        ({"image_shape": [2**14, 2**14, 1]}, 4),
        ({"data__image_shape": [28, 27, 1]}, 4),
        ({"data__fingerprint": "../.."}, 4),
        ({"format_version": 2}, 4),
        ({"name": 3}, 4),
        ({"name": "x" * 2**18}, 4),
        ({"config__model__hiden_size": 3}, 2),
        ({"config__model__name": "other"}, 2),
        ({"config__epochs": 10**9}, 2),
        ({"config__model__mlp__hidden_size": 10**6}, 4),
        ({"plugs": [{"kind": "model", "name": "x", "source": "x.py", "sha256": ""}]}, 4),
    ],
)
def test_untrue_facts_are_refused(
    changes: dict[str, Any], code: int, weights: Path, vaectl: Vaectl, tmp_path: Path
) -> None:
    answer = vaectl("import", _edited(weights, tmp_path, **changes))
    assert answer.code == code, answer.err
    assert "edited.safetensors" in answer.err
    assert "Traceback" not in answer.err
    assert not Path("runs").exists()


def test_a_file_that_is_no_model_is_refused(
    weights: Path, vaectl: Vaectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = weights.read_bytes()
    header = b'{"__metadata__":' + b'{"a":' * 10_000
    for number, bad in enumerate(
        (
            b"",
            content[:-1],
            content[:100],
            pickle.dumps({"x": np.zeros(3)}),
            (2**63).to_bytes(8, "little") + content[8:],
            len(header).to_bytes(8, "little") + header,
        )
    ):
        file = tmp_path / f"bad{number}.safetensors"
        file.write_bytes(bad)
        answer = vaectl("import", file)
        assert answer.code == 4, number
        assert file.name in answer.err
    assert vaectl("import", tmp_path / "none.safetensors").code == 4
    assert vaectl("import", tmp_path).code == 2
    other = tmp_path / "weights.pkl"
    other.write_bytes(content)
    assert vaectl("import", other).code == 2
    bare = tmp_path / "bare.safetensors"
    bare.write_bytes(safetensors.numpy.save(safetensors.numpy.load(content)))
    answer = vaectl("import", bare)
    assert answer.code == 2
    assert "--config" in answer.err
    nothing = b'{"__metadata__":null}'
    bare.write_bytes(len(nothing).to_bytes(8, "little") + nothing)
    assert vaectl("import", bare).code == 2
    monkeypatch.setattr(importing, "MOST_BYTES", len(content) - 1)
    assert vaectl("import", weights).code == 4
    assert not Path("runs").exists()


def test_the_data_of_an_import_may_be_named(
    weights: Path, vaectl: Vaectl, tmp_path: Path, rng: np.random.Generator
) -> None:
    images = rng.integers(0, 256, (60, 28, 28), np.uint8)
    np.savez(tmp_path / "x.npz", x_train=images, x_test=images[:9])
    np.savez(tmp_path / "small.npz", x_train=images[:, :9], x_test=images[:9, :9])
    sizes = [f"--set=data.{name}_size=null" for name in ("train", "validation", "test")]
    arguments = ("import", weights, *sizes, "--set", f"data.source=npz:{tmp_path / 'x.npz'}")
    assert vaectl(*arguments, "--name", "named").code == 0
    assert package.open_run("named").record.data["images"]["test"] == 9
    assert vaectl("evaluate", "named", "--importance-samples", "0", "-q").code == 0
    small = vaectl("import", weights, *sizes, f"--set=data.source=npz:{tmp_path / 'small.npz'}")
    assert small.code == 4
    assert "encoder.hidden.kernel" in small.err
    missing = vaectl("import", weights, "--set", "data.source=npz:nowhere.npz")
    assert missing.code == 3
    assert "data.source" in missing.err
    # what a file says of its data is not read before it is used
    edited = _edited(weights, tmp_path, config__data__source="npz:/gone.npz")
    assert vaectl("import", edited, "--name", "gone").code == 0
    assert vaectl("sample", "gone", "--count", "1").code == 0
    assert vaectl("evaluate", "gone", "-q").code == 3
    assert vaectl("export", "gone", "--format", "card", "-q").code == 0
    assert vaectl("export", "gone", "--format", "safetensors", "-q").code == 3


def test_a_card_says_what_was_measured_and_escapes_names(runs: Path, vaectl: Vaectl) -> None:
    run = RunDir(runs / "z5")
    record = run.read_record()
    hostile = "digits <script>alert(1)</script> | [x](http://a) `b`\n# no heading *c* _d_"
    data = {**record.data, "source": hostile}
    run.write_record(record.model_copy(update={"data": data}))
    assert vaectl("export", "z5", "--format", "card", "-q").code == 0
    card = (run.path / "export" / "card.md").read_text()
    assert "vaectl evaluate" in card
    (line,) = [line for line in card.splitlines() if line.startswith("| source")]
    assert line.count("|") == 3
    assert not set("<>[]`*_") & set(line)
    assert "script" in line
    run.write_record(record)
    answer = vaectl(
        *("evaluate", "z5", "--split", "validation", "--importance-samples", "0"), "--json", "-q"
    )
    assert vaectl("export", "z5", "--format", "card", "-q").code == 0
    elbo = json.loads(answer.out)["elbo"]
    mean, error = f"{elbo['mean']:.2f}", f"{elbo['standard_error']:.2f}"
    card = (run.path / "export" / "card.md").read_text()
    assert re.search(rf"ELBO.*\| {mean} \| {error} \|", card)
    for name in re.findall(r"\]\((card-\w+\.png)\)", card):
        assert (run.path / "export" / name).read_bytes().startswith(b"\x89PNG")
    # the numbers of one checkpoint are not those of another
    of_another = run.read_evaluations()["validation"].model_copy(update={"step": 1})
    run.write_evaluation(of_another)
    assert vaectl("export", "z5", "--format", "card", "-q").code == 0
    card = (run.path / "export" / "card.md").read_text()
    assert mean not in card
    assert "vaectl evaluate" in card


def test_a_card_has_the_numbers_of_its_own_checkpoint(vaectl: Vaectl) -> None:
    small = ("data.train_size=100", "data.validation_size=20", "checkpoint.every=1")
    options = ("--epochs", 2, "--hidden-size", 4, "--code-size", 2, "--name", "a", "-q")
    assert vaectl("train", *options, *(f"--set={each}" for each in small)).code == 0
    run = RunDir(Path("runs/a"))
    best, epochs = run.read_record().best, [info.epoch for info in kept(run.checkpoints)]
    elbos = {
        row.epoch: f"{row.terms['elbo']:.2f}" for row in run.read_metrics() if row.split != "train"
    }
    assert best
    assert len(epochs) == 2
    for epoch in epochs:
        how = ("--checkpoint", epoch, "--format", "card", "-q")
        assert vaectl("export", "a", *how).code == 0
        card = (run.path / "export" / "card.md").read_text()
        told = re.findall(r"\| ELBO \| (\d+) \| (\S+) \|", card)
        assert told == [(f"{epoch}", elbos[epoch])]
        chosen = epoch == best.epoch
        assert ("chosen by the highest ELBO" in card) == chosen
        assert ("by which the checkpoint was chosen" in card) == chosen
        other = f"highest ELBO on the validation split, which is that of epoch {best.epoch}."
        assert (other in card) == (not chosen)


MINE = """
from vaectl.exports.base import FOLDER, Export

class Mine(Export, name="mine"):
    leaves = {FOLDER: {r"mine\\.txt": rb"mine"}}

    def write(self, model):
        return {"mine.txt": b"mine: " + model.title.encode()}
"""


def test_a_format_of_a_file_is_a_format(
    runs: Path, vaectl: Vaectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Export, "known", dict(Export.known))
    (tmp_path / "mine.py").write_text(MINE)
    assert vaectl("export", "z2", "--format", "mine").code == 2
    answer = vaectl("export", "z2", "--format", "mine", "--plugin", "mine.py", "-q")
    assert answer.code == 0
    assert (runs / "z2" / "export" / "mine.txt").read_bytes() == b"mine: z2, epoch 3"


@pytest.mark.parametrize("text", ["", " ", "\0", "a\nb", 300 * "x", 3000 * "z/", "file", "file/x"])
def test_an_odd_place_is_answered_without_a_traceback(
    text: str, runs: Path, vaectl: Vaectl, odd: _Odd
) -> None:
    Path("file").write_bytes(b"")
    answer = vaectl("export", "z2", "--format", odd.form.name, "-q", "--output", text)
    assert answer.code in ((0,) if text in (" ", "a\nb", "") else (2, 4)), answer.err
    assert "Traceback" not in answer.err
    assert (runs / "z2").exists()


@pytest.mark.parametrize("name", [ODD_NAME, 250 * "x"])
def test_a_run_of_any_name_is_exported(
    name: str, runs: Path, vaectl: Vaectl, trained_runs: Path
) -> None:
    (runs / "z2").rename(runs / name)
    forms = [form for form in EXPORTS if form.name in ("card", "safetensors")]
    result = export.export(load(runs / name), forms, runs / "out")
    result.check()
    assert vaectl("import", runs / "out" / "model.safetensors", "--name", "copy").code == 0
    assert package.load("copy").code_size == load(trained_runs / "z2").code_size
    card = (runs / "out" / "card.md").read_text()
    assert "<script" not in card
    assert card.count("\n# ") == 1
