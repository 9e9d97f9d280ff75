import contextlib
import copy
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML

from tests.conftest import Vaectl, sent
from vaectl import config
from vaectl.base.errors import ConfigError
from vaectl.base.plugs import Plug
from vaectl.base.section import flat
from vaectl.comparison import plan as comparison
from vaectl.config import documents, problems, reading
from vaectl.optimizers.adam import Adam
from vaectl.optimizers.base import Optimizer
from vaectl.optimizers.sgd import SGD
from vaectl.sweeps import options
from vaectl.sweeps import plan as sweep
from vaectl.training import step
from vaectl.training.program import Member, Program

ROOT = Path(__file__).parent.parent
# the other folders hold studies, which tests/test_comparison.py and tests/test_sweep.py try
CONFIGS = sorted(
    file
    for file in (ROOT / "configs").rglob("*.yaml")
    if file.parent.name not in ("compare", "sweep")
)


def _problems(text: str, tmp_path: Path, **more: object) -> list[str]:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        reading.load(file, **more)  # type: ignore[arg-type]
    assert error.value.exit_code == 2
    return [line.removeprefix(f"{tmp_path}/") for line in error.value.message.splitlines()]


@pytest.mark.parametrize(
    ("file", "optimizer"),
    [
        pytest.param(file, name, id=f"{file.relative_to(ROOT)}-{name}")
        for file in CONFIGS
        # each optimizer with one file, and each file with one optimizer
        for name in (Optimizer.known if file.stem == "quickstart" else ["adam"])
    ],
)
def test_every_config_loads_and_its_epoch_has_the_right_shapes(file: Path, optimizer: str) -> None:
    options: dict[str, object] = {"optimizer.name": optimizer}
    if Optimizer.known[optimizer].averages:  # in place of a schedule
        options["optimizer.schedule.name"] = "constant"
    settings = reading.load(file, options=options)
    program = Program.of(settings, images=1000, image_shape=(28, 28, 1))
    member = Member.of(settings)
    state = jax.eval_shape(lambda: step.init(program, member))
    images = jax.eval_shape(lambda: jnp.zeros((1000, 784), jnp.uint8))
    after, sums = jax.eval_shape(
        lambda state, images: step.train_steps(program, member, state, images, 0, 1),
        state,
        images,
    )
    assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(
        lambda a: (a.shape, a.dtype), state
    )
    shapes = {name: values.shape for name, values in sums.items()}
    assert shapes == dict.fromkeys(step.terms(program), (program.steps_per_epoch,))
    assert {"kl", "nll"} <= set(shapes)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_config_has_a_header_with_command_time_and_result(file: Path) -> None:
    header = [line for line in file.read_text().splitlines() if line.startswith("#")]
    text = "\n".join(header)
    assert f"vaectl train {file.relative_to(ROOT)}" in text
    assert "# Takes" in text
    assert "# Expect" in text


def test_quickstart_is_the_built_in_default() -> None:
    assert reading.load(ROOT / "configs" / "quickstart.yaml") == reading.load()


def test_all_problems_are_told_at_once_in_order_with_lines(tmp_path: Path) -> None:
    text = (
        "seed: -1\nepochs: 1.5\noptimizer:\n  name: adm\n  adam:\n    b1: 1\n"
        "model:\n  code_sise: 2\nnonsense: 1\n"
    )
    names = ", ".join(Optimizer.known)
    assert _problems(text, tmp_path) == [
        "c.yaml:1: seed: should be at least 0, not -1",
        "c.yaml:2: epochs: should be a whole number, not 1.5",
        f"c.yaml:4: optimizer.name: should be one of {names}, not 'adm'; did you mean adam?",
        "c.yaml:6: optimizer.adam.b1: should be less than 1, not 1",
        "c.yaml:8: unknown key model.code_sise; did you mean model.code_size?",
        "c.yaml:9: unknown key nonsense",
    ]


def test_an_unknown_plug_is_one_problem_and_says_what_loads_it(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("seed: -1\nmodel:\n  name: odd\n  odd: {width: 3}\n  code_sise: 2\n")
    with pytest.raises(ConfigError) as error:
        reading.load(file)
    assert [line.partition("c.yaml:")[2] for line in error.value.message.splitlines()] == [
        "1: seed: should be at least 0, not -1",
        "3: model.name: should be one of conv, mlp, not 'odd'",
        "5: unknown key model.code_sise; did you mean model.code_size?",
    ]
    assert "--plugin FILE.py loads models of your own" in error.value.hint


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("model.code_size", "write code_size below model:"),
        ("model.code_sise", "write code_size below model:"),
        ("optimizer.adam.b1", "write b1 below optimizer: adam:"),
    ],
)
def test_a_key_with_dots_in_a_file_says_where_it_belongs(
    key: str, meant: str, tmp_path: Path
) -> None:
    assert _problems(f"{key}: 0.5\n", tmp_path) == [f"c.yaml:1: unknown key {key}; {meant}"]


def test_numbers_of_numpy_are_taken_from_python() -> None:
    given = {"epochs": np.int64(3), "model": {"code_size": np.arange(9)[7]}}
    found = reading.of_mapping(given)
    assert (found.epochs, found.model.code_size) == (3, 7)
    height, width = np.int64(3), np.arange(9)[7]
    for sides in ((height, width), [height, width]):
        found = reading.of_mapping({"data": {"source": "images:x", "size": sides}})
        assert found.data.size == (3, 7)


def test_a_configuration_can_be_pickled_and_copied() -> None:
    found = reading.of_mapping({"epochs": 3, "optimizer": {"name": "sgd", "learning_rate": 0.1}})
    assert sent(found) == copy.deepcopy(found) == found


def test_a_key_of_the_chosen_plug_may_stand_beside_its_name_and_is_told_of_in_full(
    tmp_path: Path,
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("optimizer:\n  name: sgd\n  learning_rate: 0.1\nmodel: {hidden_size: 7}\n")
    read = reading.load(file)
    assert (read.optimizer.chosen, read.model.mlp.hidden_size) == (SGD(learning_rate=0.1), 7)
    assert read.optimizer.adam == Adam()
    text = "optimizer:\n  name: sgd\n  learning_rate: -1\n"
    assert _problems(text, tmp_path) == [
        "c.yaml:3: optimizer.sgd.learning_rate: should be more than 0, not -1"
    ]


def test_an_unknown_key_is_answered_with_that_of_the_chosen_optimizer(tmp_path: Path) -> None:
    text = "optimizer:\n  name: sgd\n  learning_rat: 0.1\n"
    assert _problems(text, tmp_path) == [
        "c.yaml:3: unknown key optimizer.learning_rat; did you mean optimizer.sgd.learning_rate?"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1\nb: {", "c.yaml:2: not valid YAML: expected ',' or ']', but got ':'"),
        ("seed: 1\nseed: 2\n", 'c.yaml:2: not valid YAML: found duplicate key "seed"'),
        ("- 1\n", "c.yaml: must be a mapping of keys to values, not a list"),
        ("just words\n", "c.yaml: must be a mapping of keys to values, not a string"),
        ("seed: yes\n", "c.yaml:1: seed: should be a whole number, not 'yes'"),
        ("epochs: true\n", "c.yaml:1: epochs: should be a whole number, not true"),
        ("epochs: 99999999999\n", "c.yaml:1: epochs: should be at most 1000000"),
        ("data:\n  threshold: .nan\n", "c.yaml:2: data.threshold: should be a finite number"),
        ("model: 3\n", "c.yaml:1: model: should be a mapping of keys to values, not 3"),
        (
            "data: {source: cifar}\n",
            "c.yaml:1: data.source: cifar: no such data source; there are digits-5k",
        ),
        ("seed: !!python/object/apply:os.getcwd []\n", "c.yaml:1: seed: should be a whole number"),
        ("seed: &x true\n", "c.yaml:1: seed: should be a whole number, not true"),
        ("seed: 0x" + 4000 * "f", "c.yaml:1: seed: should be less than 4294967296, not a number"),
        ("seed: !!bool 7\n", "c.yaml: not valid YAML"),
        ("!!omap\n- seed: -1\n", "c.yaml:1: seed: should be at least 0, not -1"),
        ("&a {model: *a}\n", "c.yaml: nested too deeply"),
        (1000 * "[", "c.yaml: nested too deeply"),
        (
            "optimizer: &x {clip_norm: 1}\nmodel:\n  <<: *x\n",
            "c.yaml:3: unknown key model.clip_norm; did you mean optimizer.clip_norm?",
        ),
    ],
)
def test_bad_files_are_answered_with_reason_and_line(
    text: str, problem: str, tmp_path: Path
) -> None:
    (answer,) = _problems(text, tmp_path)
    assert answer.startswith(problem)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml: cannot be read"):
        reading.load(tmp_path / "nothing.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        reading.load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        reading.load(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.write_bytes(bytes(10**5)),
    ],
    ids=["a pipe", "a device", "a large file"],
)
def test_files_that_may_never_end_are_refused_at_once(
    make: Callable[[Path], object], tmp_path: Path
) -> None:
    make(tmp_path / "c.yaml")
    with pytest.raises(
        ConfigError, match=r"c\.yaml: cannot be read \((Not a reg|larger than 64\.0 KiB)"
    ):
        reading.load(tmp_path / "c.yaml")


BOMB = "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(64))


@pytest.mark.parametrize("key", ["epochs: *a64", "? *a64\n: 1", "? {a: *a64}\n: 1"])
def test_aliases_of_aliases_are_refused_before_they_fill_the_memory(
    key: str, tmp_path: Path
) -> None:
    (answer,) = _problems(f"a0: &a0 1\n{BOMB}{key}\n", tmp_path)
    assert "not valid YAML" in answer
    flow = ", ".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]" for i in range(64))
    with pytest.raises(ConfigError, match="not valid YAML"):
        reading.load(assignments=[f"epochs={{a0: &a0 1, {flow}}}"])


def test_an_anchor_may_be_used_again(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("seed: &x 1\nepochs: &x 2\nbatch_size: *x\n")
    assert reading.load(file).batch_size == 2


def test_nothing_in_a_file_or_an_assignment_is_executed(tmp_path: Path) -> None:
    made = tmp_path / "made"
    for tag in ("apply:os.mkdir", "new:os.mkdir", "object/apply:os.mkdir"):
        value = f"!!python/object/{tag} ['{made}']"
        _problems(f"seed: {value}\n", tmp_path)
        with pytest.raises(ConfigError):
            reading.load(assignments=[f"seed={value}"])
    assert not made.exists()


@pytest.mark.parametrize("value", ["[1]", "3", "null"])
def test_a_key_inside_of_what_is_no_section_is_an_error(value: str) -> None:
    with pytest.raises(ConfigError, match="not a mapping of keys to values"):
        reading.load(assignments=[f"optimizer={value}"], options={"optimizer.learning_rate": 0.1})


def test_overrides_apply_in_order_after_the_file_and_options_last(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("seed: 1\nepochs: 2\noptimizer: {name: sgd}\n")
    settings = reading.load(
        file,
        assignments=["epochs=3", "epochs=4", "optimizer.sgd.momentum=5e-1", "batch_size=7"],
        options={"batch_size": 9, "seed": None, "optimizer.learning_rate": 0.25},
    )
    assert (settings.seed, settings.epochs, settings.batch_size) == (1, 4, 9)
    assert settings.optimizer.sgd == SGD(learning_rate=0.25, momentum=0.5)
    assert settings.optimizer.adam == Adam()


def test_a_problem_of_an_override_names_the_option() -> None:
    with pytest.raises(ConfigError) as error:
        reading.load(assignments=["epochs=0"], options={"model.code_size": -1})
    assert error.value.message.splitlines() == [
        "--set epochs=0: epochs: should be at least 1, not 0",
        "--code-size: should be at least 1, not -1",
    ]
    with pytest.raises(ConfigError, match="not of the form key=value"):
        reading.load(assignments=["epochs"])
    for value in ("[1", "!!bool 7"):
        with pytest.raises(ConfigError, match="the value is not valid YAML"):
            reading.load(assignments=[f"epochs={value}"])


def test_empty_files_are_the_default(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("# nothing\n")
    assert reading.load(tmp_path / "c.yaml") == config.Config()


def test_what_is_dumped_loads_to_the_same(tmp_path: Path) -> None:
    settings = reading.load(
        assignments=["optimizer.clip_norm=1e-7", "data.train_size=100", "data.source=idx:some dir"]
    )
    file = tmp_path / "c.yaml"
    file.write_text(documents.dump(settings, "two\nlines"))
    assert file.read_text().startswith("# two\n# lines\n")
    assert reading.load(file) == settings


def test_dumping_changes_no_yaml_of_the_program_that_trains() -> None:
    assert "train_size: null" in documents.dump(config.Config())
    YAML().dump({"key": None}, text := io.StringIO())
    assert text.getvalue() == "key:\n"


def test_file_sources_do_not_depend_on_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.Data(source="npz:a/b.npz").source == f"npz:{tmp_path}/a/b.npz"
    assert config.Data(source="idx:/a").source == "idx:/a"
    assert config.Data(source="idx:~nobody-here/a").source == f"idx:{tmp_path}/~nobody-here/a"


def test_files_are_validated_all_at_once(vaectl: Vaectl) -> None:
    Path("good.yaml").write_text("epochs: 3\n")
    Path("pair.yaml").write_text("optimizers: [adam, sgd]\n")
    Path("bad.yaml").write_text("seed: 1\nepochs: x\nmodel: {name: mpl}\n")
    Path("worse.yaml").write_text("optimizers: [adam]\nbase: {epochs: 0}\nsedes: 3\n")
    answer = vaectl("config", "validate", "good.yaml", "pair.yaml")
    assert answer.code == 0
    first, second = answer.out.splitlines()
    assert ("good.yaml" in first, "experiment" in first) == (True, True)
    assert ("pair.yaml" in second, "comparison" in second) == (True, True)
    code, out, err = vaectl("config", "validate", "bad.yaml", "good.yaml", "worse.yaml", "no.yaml")
    assert (code, out.split(":")[0]) == (2, "good.yaml")
    for place in ("bad.yaml:2: ", "bad.yaml:3: ", "worse.yaml:2: ", "worse.yaml:3: ", "no.yaml: "):
        assert err.count(place) == 1
    assert not Path("runs").exists()


HINTS = [
    ("epochs=x", "epochs"),
    ("model.name=cnn", "--plugin"),
    ("data.source=cifar", "vaectl data list"),
    ("epochz=3", "vaectl config show"),
    ("optimizer=adam", "set optimizer.name to adam"),
    ("optimizer=3", "keys below it"),
]


@pytest.mark.parametrize(("assignment", "hint"), HINTS)
def test_a_hint_fits_the_problem(assignment: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        reading.load(assignments=[assignment])
    assert hint in error.value.hint
    with pytest.raises(ConfigError) as error:
        reading.load(assignments=[assignment, "batch_size=0"])
    assert "vaectl config show" in error.value.hint


VALUES = ["x", "1.5", "-1", "[1]", "{a: 1}", "null", "true", ".nan", "1e99", "''", "2001-01-01"]


def _message(assignment: str) -> str:
    try:
        reading.load(assignments=[assignment])
    except ConfigError as error:
        return error.message
    return ""


@pytest.mark.parametrize("value", VALUES)
def test_no_message_has_the_words_of_a_library(value: str) -> None:
    messages = [_message(f"{key}={value}") for key in problems.keys(config.Config)]
    assert any(messages)
    assert not re.findall(r".*(?:[Ii]nput(?!_noise)|valid |True|False|None).*", "\n".join(messages))


def test_configurations_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        config.Config().seed = 1  # type: ignore[misc]


def test_the_schema_knows_every_key_and_refuses_others() -> None:
    schema = json.loads(json.dumps(reading.json_schema()))
    assert set(schema["properties"]) == {*config.Config.model_fields, "base"}
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["ModelChoice"]["properties"]["code_size"]["description"]
    assert schema["$defs"]["MLP"]["properties"]["hidden_size"]["description"]
    source = schema["$defs"]["Data"]["properties"]["source"]
    for form in ("digits-5k", "idx:DIR", "images:DIR", "npz:FILE", "tfds:NAME"):
        assert form in source["description"]
        assert re.search(source["pattern"], form)
    for text in ("digits-5k:x", "idx:", "cifar", "npz:a\nb"):
        assert not re.search(source["pattern"], text)


def test_the_schema_takes_every_file_that_vaectl_takes() -> None:
    jsonschema = pytest.importorskip("jsonschema")  # ray brings it
    schema = jsonschema.Draft202012Validator(reading.json_schema())
    for file in CONFIGS:
        problems = [error.message for error in schema.iter_errors(YAML(typ="safe").load(file))]
        assert problems == [], file
    for wrong in (
        {"hidden_size": 3},
        {"model": {"hiden_size": 3}},
        {"model": {"hidden_size": "many"}},
        {"objective": {"name": "beta", "beta": 4.0}},  # objective.beta is a section
    ):
        assert not schema.is_valid(wrong), wrong


ANY = settings(
    max_examples=int(os.environ.get("VAECTL_EXAMPLES", "150")),
    deadline=None,
    derandomize=True,
    database=None,
)
TOKENS = [
    *("&a ", "*a", "<<: *a\n", "<<: ", "[*a]", "{a: *a}", "&a {model: *a}", "? ", "- ", ": "),
    *("!!python/object/apply:os.system [ls]", "!!omap\n", "!!set {a}", "!!bool 7", "!!float "),
    *("!!timestamp ", "!!binary ", "!a ", "---\n", "...\n", "%YAML 9.9\n", "|\n", "'", '"', "\t"),
    *(".nan", "-.inf", "1e999", "0x" + 4000 * "f", 4300 * "9", "2001-02-30", "1:60", "null", "yes"),
    *("idx:~nobody/a", "\0", "\ufeff", "\u2028", "\x85", 400 * "[", 400 * "{a: ", 4000 * "- "),
]
WORDS = st.sampled_from(TOKENS)
BYTES = [*map(str.encode, TOKENS), b"\xe9", b"\xff\xfe"]


@ANY
@given(
    file=st.sampled_from(CONFIGS),
    flips=st.lists(st.tuples(st.integers(0, 10**4), st.integers(1, 255)), max_size=2),
    words=st.lists(
        st.tuples(st.integers(0, 10**4), st.booleans(), st.sampled_from(BYTES)), max_size=3
    ),
)
def test_a_file_changed_anywhere_loads_or_is_refused(
    file: Path,
    flips: list[tuple[int, int]],
    words: list[tuple[int, bool, bytes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    content = bytearray(re.sub(rb"(?m)^#.*\n", b"", file.read_bytes()))
    for place, replace, word in words:
        found = list(re.finditer(rb"[\w.-]+", content))
        here = found[place % len(found)]
        content[here.start() : here.end() if replace else here.start()] = word
    for place, bits in flips:
        content[place % len(content)] ^= bits
    changed = tmp_path_factory.getbasetemp() / "changed.yaml"
    changed.write_bytes(content)
    with contextlib.suppress(ConfigError):
        reading.load(changed)


@ANY
@given(
    key=st.sampled_from([*problems.keys(config.Config)]) | st.text(max_size=9),
    value=WORDS | st.lists(WORDS | st.text(max_size=9), max_size=5).map("".join),
)
def test_any_assignment_loads_or_is_refused(key: str, value: str) -> None:
    with contextlib.suppress(ConfigError):
        reading.load(assignments=[f"{key}={value}"])


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("lr", "optimizer.adam.learning_rate"),
        ("optimizer.lr", "optimizer.adam.learning_rate"),
        ("optimizer.wd", "optimizer.weight_decay"),
        ("bs", "batch_size"),
        ("epoch", "epochs"),
        ("model.hidden", "model.mlp.hidden_size"),
    ],
)
def test_an_unknown_key_names_the_nearest(given: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"unknown key {given}; did you mean {meant}\?"):
        reading.load(assignments=[f"{given}=1"])


@pytest.mark.parametrize("key", ["optimizer", "optimizer.schedule"])
def test_a_name_in_the_place_of_a_section_names_the_key(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"did you mean {key}\.name\?"):
        reading.load(assignments=[f"{key}=cosine"])


def _write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def test_an_experiment_is_based_on_the_file_of_another(tmp_path: Path) -> None:
    _write(
        tmp_path,
        a="epochs: 3\nseed: 5\noptimizer: {name: adam, learning_rate: 0.01}\n"
        "model: {hidden_size: 7}\n",
        below__b="base: ../a.yaml\noptimizer: {learning_rate: 0.5, name: sgd}\n"
        "model: {mlp: {hidden_size: 9}}\n",
        c="base: below/b.yaml\noptimizer: {momentum: 0.5}\nepochs: 4\n",
    )
    found = reading.load(tmp_path / "c.yaml", assignments=["seed=6"])
    assert (found.epochs, found.seed, found.model.mlp.hidden_size) == (4, 6, 9)
    assert (found.optimizer.name, found.optimizer.chosen.learning_rate) == ("sgd", 0.5)
    assert found.optimizer.sgd.momentum == 0.5
    assert found.optimizer.adam.learning_rate == 0.01  # it was adam's, and still is
    (tmp_path / "whole.yaml").write_text(documents.dump(found))
    assert reading.load(tmp_path / "whole.yaml") == found


def test_a_comparison_is_based_on_an_experiment_that_has_a_base(tmp_path: Path) -> None:
    _write(
        tmp_path,
        a="epochs: 3\nmodel: {hidden_size: 7}\n",
        b="base: a.yaml\nmodel: {code_size: 2}\n",
        c="base: {file: b.yaml, model: {mlp: {hidden_size: 8}}}\noptimizers: [adam]\n",
        d="base: b.yaml\noptimizers: [adam]\n",
    )
    found = comparison.load(tmp_path / "c.yaml").base
    assert (found.epochs, found.model.code_size, found.model.mlp.hidden_size) == (3, 2, 8)
    assert comparison.load(tmp_path / "d.yaml").base.model.mlp.hidden_size == 7


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"a": "base: a.yaml"}, r"a\.yaml:1: base: .*a\.yaml is based on itself"),
        ({"a": "base: b.yaml", "b": "base: ./a.yaml"}, r"b\.yaml:1: base: .* is based on itself"),
        ({"a": "seed: 1\nbase: none.yaml"}, r"a\.yaml:2: base: .*none\.yaml: cannot be read"),
        ({"a": "base: 3"}, r"a\.yaml:1: base: should be the path of a YAML file, not 3"),
        ({"a": "base: b.yaml", "b": "optimizers: [adam]"}, r"b\.yaml: this is a comparison"),
        ({"a": "base: b.yaml", "b": "seed: 1\nepochs: x"}, r"b\.yaml:2: epochs: "),
        ({"a": "base: b.yaml\nepochs: x", "b": "epochs: 2"}, r"a\.yaml:2: epochs: "),
        ({"a": "base: b.yaml", "b": "optimizer: {b1: 3}"}, r"b\.yaml:1: optimizer\.adam\.b1: "),
    ],
)
def test_what_is_wrong_in_a_base_is_named_with_its_line(
    files: dict[str, str], told: str, tmp_path: Path
) -> None:
    _write(tmp_path, **files)
    with pytest.raises(ConfigError, match=told):
        reading.load(tmp_path / "a.yaml")


def test_the_configuration_of_a_run_is_based_on_no_file(tmp_path: Path) -> None:
    """A run may come from somebody else."""
    _write(tmp_path, a="seed: 1")
    with pytest.raises(ConfigError, match="unknown key base"):
        reading.load(tmp_path / "config.yaml", content=b"base: a.yaml")


def test_settings_of_one_plug_are_not_those_of_another_that_is_chosen(tmp_path: Path) -> None:
    file = tmp_path / "adam.yaml"
    file.write_text("optimizer: {name: adam, learning_rate: 0.003}\nmodel: {hidden_size: 77}\n")
    based = tmp_path / "based.yaml"
    based.write_text("base: adam.yaml\noptimizer: {name: sgd}\nmodel: {name: conv}\n")
    chosen = {"optimizer.name": "sgd", "model.name": "conv"}
    for found in (reading.load(based), reading.load(file, options=chosen)):
        assert found.optimizer.chosen.learning_rate == SGD().learning_rate
        assert found.optimizer.model_dump()["adam"]["learning_rate"] == 0.003
        assert found.model.model_dump()["mlp"]["hidden_size"] == 77
    again = reading.load(file, options={"optimizer.name": "adam"})
    assert again == reading.load(file)
    # whatever the order in which they are given, a key beside the name is one of what is chosen
    sets = ["optimizer.learning_rate=0.5", "optimizer.name=sgd"]
    for assignments in (sets, sets[::-1]):
        assert reading.load(file, assignments=assignments).optimizer.chosen.learning_rate == 0.5
    found = reading.load(file, assignments=["optimizer={name: sgd, momentum: 0.3}"], options=chosen)
    assert found.optimizer.model_dump()["sgd"]["momentum"] == 0.3


def _other(field: FieldInfo) -> Any:
    """Return a value that is not the default."""
    kind, default = field.annotation, field.default
    if kind in (bool, int):
        return not default if kind is bool else 2 * default + 1
    words = (word for word in get_args(kind) if word != default)
    return next(words, None) or default / 2 or 0.25


def _others(plug: type[Plug]) -> Iterator[Any]:
    """Yield settings that are not the defaults, in groups that suit each other: each key in one."""
    rest = {key: _other(field) for key, field in plug.model_fields.items()}
    while rest:
        group: dict[str, Any] = {}
        for key, value in rest.items():
            with contextlib.suppress(ValidationError, PydanticCustomError):
                plug.model_validate({**group, key: value}).suits(config.Config())
                group[key] = value
        rest = {key: value for key, value in rest.items() if key not in group}
        yield pytest.param(plug, group, id=f"{plug.kind}-{plug.name}-{next(iter(group))}")


@pytest.mark.parametrize("short", [False, True], ids=["in full", "short"])
@pytest.mark.parametrize(
    ("plug", "others"),
    [
        each
        for choice in config.CHOICES.values()
        for plug in choice.plugs.known.values()
        for each in _others(plug)
    ],
)
def test_every_key_of_every_plug_arrives_wherever_it_is_written(
    plug: type[Plug], others: dict[str, Any], short: bool, tmp_path: Path
) -> None:
    kind, name = plug.kind, plug.name
    beside = {key: value for key, value in others.items() if short and key not in plug.known}
    inside = {key: value for key, value in others.items() if key not in beside}
    keys = {**beside, name: inside} if inside else beside
    named = {"data": {"binarization": "none"}}  # as some likelihoods need
    whole = {kind: {"name": name, **keys}, **named}
    _write(
        tmp_path,
        a=json.dumps({kind: {"name": name, name: plug().model_dump()}, **named}),
        b=json.dumps({"base": "a.yaml", kind: keys}),
        c=json.dumps({"base": "b.yaml", kind: {}}),
        d=json.dumps(whole),
        e=json.dumps({"base": {"file": "a.yaml", kind: keys}, "optimizers": ["adam"]}),
        f=json.dumps({"base": whole, "optimizers": ["adam"]}),
    )
    sets = [f"{kind}.{key}={json.dumps(value)}" for key, value in flat(keys)]
    names = ["data.binarization=none", f"{kind}.name={name}"]
    found = [
        *(reading.load(tmp_path / f"{file}.yaml") for file in "bcd"),
        *(comparison.load(tmp_path / f"{file}.yaml").base for file in "ef"),
        comparison.load(tmp_path / "e.yaml", assignments=sets).base,
        reading.load(assignments=[*names, *sets]),
        reading.load(assignments=[*sets, *names]),
        reading.load(tmp_path / "a.yaml", assignments=sets),
        reading.load(assignments=[f"{kind}={json.dumps(whole[kind])}", names[0]]),
        reading.of_mapping(whole),
        config.Config.model_validate(whole),
    ]
    axes = options.axes([f"{kind}.{key}={json.dumps(value)}" for key, value in flat(keys)])
    found += [point.settings for point in sweep.load(assignments=names, more=axes).points]
    meant = {**plug().model_dump(), **others}
    assert [getattr(each, kind).chosen.model_dump() for each in found] == len(found) * [meant]


@pytest.mark.parametrize(
    ("key", "low", "high", "values"),
    [
        ("model.mlp.hidden_size", 8, 11, [8, 10, 11]),
        ("model.hidden_size", 8, 11, [8, 10, 11]),
        ("objective.beta.beta", 1, 4, [1, 2.5, 4]),
    ],
)
def test_a_range_has_whole_numbers_where_the_key_has_in_full_or_short(
    key: str, low: float, high: float, values: list[float]
) -> None:
    axes = options.axes([f"{key}={low}:{high}:3"])
    found = sweep.load(assignments=["objective.name=beta"], more=axes)
    assert [point.values[key] for point in found.points] == values


def test_a_number_in_the_place_of_a_section_names_the_key_in_it() -> None:
    with pytest.raises(ConfigError, match=r"mapping.*did you mean objective\.beta\.beta\?"):
        reading.load(assignments=["objective.name=beta", "objective.beta=2"])


def test_an_empty_section_leaves_what_the_base_says(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model: {code_size: 2, mlp: {activation: tanh}}\n")
    for empty in ("model: {}", "model: {mlp: {}}", "optimizer: {}"):
        (tmp_path / "b.yaml").write_text(f"base: a.yaml\n{empty}\n")
        assert reading.load(tmp_path / "b.yaml") == reading.load(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("optmizer.name=sgd", "unknown key optmizer; did you mean optimizer?"),
        ("epochs.x=3", "epochs: should be a whole number, not a mapping"),
        ("data.sourc=x", "unknown key data.sourc; did you mean data.source?"),
        ("name=x", "unknown key name; did you mean model.name?"),
        (".=1", "not of the form key=value"),
        ("model..x=1", "not of the form key=value"),
    ],
)
def test_a_problem_names_the_assignment_that_it_is_of(assignment: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        reading.load(assignments=["seed=1", assignment])
    assert error.value.message == f"--set {assignment}: {told}"


@pytest.mark.parametrize("name", ["a\u00a0b", "a\u202fb", "plain", "two words", "é"])
def test_what_config_show_prints_can_be_read_back(
    name: str, vaectl: Vaectl, tmp_path: Path
) -> None:
    shown = vaectl("config", "show", "--set", f"data.source=idx:/tmp/{name}").out
    (tmp_path / "again.yaml").write_text(shown)
    assert reading.load(tmp_path / "again.yaml").data.source == f"idx:/tmp/{name}"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("config", "show", "--set", "data.source=2020-01-01"), "should be text, not 2020-01-01"),
        (("runs", "--runs-dir", "x", "rm", "a"), "rm comes before all options"),
        (("sweep", "--vary", "seed=1", "--draw", "0"), "--draw: should be at least 1, not 0"),
        (("compare-optimizers", "--set", "base.epoch=1"), "key epoch; did you mean epochs?"),
        (("train", "--plugin", "large.py"), "large.py: cannot be read: larger than 4.0 MiB"),
        (("config", "show", "tagged.yaml"), "epochs: should be a whole number, not 'x'"),
        (("config", "show", "control.yaml"), "control.yaml:2: not valid YAML"),
    ],
)
def test_mistakes_are_told_in_the_words_of_the_user(
    arguments: tuple[str, ...], told: str, vaectl: Vaectl
) -> None:
    with Path("large.py").open("wb") as file:
        file.truncate(6_000_000)
    Path("tagged.yaml").write_text("epochs: !!python/object:os.system x\n")
    Path("control.yaml").write_text("seed: 1\nname: a\x01\n")
    answer = vaectl(*arguments)
    assert answer.code == 2
    assert told in answer.err


def test_a_conflict_blames_no_line_that_has_nothing_to_do_with_it(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("seed: 3\nobjective: {name: beta, free_nats: 1.0}\n")
    with pytest.raises(ConfigError) as error:
        reading.load(file, assignments=["prior.name=vamp"])
    assert error.value.message.startswith("objective.beta.free_nats counts")


def test_mappings_of_any_kind_may_be_nested() -> None:
    given = MappingProxyType({"model": MappingProxyType({"code_size": 3})})
    assert reading.of_mapping(given).model.code_size == 3


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [("data", "mnist", "data.source"), ("optimizer", "sgd", "optimizer.name")],
)
def test_a_name_in_the_place_of_a_section_is_answered_with_the_key(
    key: str, value: str, meant: str
) -> None:
    with pytest.raises(ConfigError, match=f"did you mean {meant}\\?") as refused:
        reading.load(assignments=[f"{key}={value}"])
    assert refused.value.hint == f"set {meant} to {value}"


@pytest.mark.parametrize("name", ["mnist", "images.npz"])
def test_images_in_the_place_of_a_file_are_answered_with_their_key(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images.npz").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError) as refused:
        reading.load(Path(name))
    assert refused.value.hint == f"name images by --set data.source={name}"


def test_keys_beside_an_unknown_plug_are_those_of_the_one_that_an_option_chooses(
    tmp_path: Path,
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("optimizer: {name: mine, learning_rate: 0.5}\n")
    found = reading.load(file, assignments=["optimizer.name=sgd"])
    assert found.optimizer.sgd.learning_rate == 0.5
    assert found.optimizer.adam == Adam()
