"""The import rules: data flows one way."""

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from vaectl.version import VERSION

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vaectl"
# the README, and a manual beside the code of each topic
PAGES = [
    ROOT / "README.md",
    ROOT / "runs" / "README.md",
    *sorted(
        page for home in ("configs", "tests", "vaectl") for page in (ROOT / home).rglob("*.md")
    ),
]

# each folder, or module of one, may import what stands above it; those in one line do not import
# each other
LAYERS = [
    {"version", "base"},
    {"data"},
    {"likelihoods", "models", "optimizers", "vae.posterior"},
    {"priors"},
    {"vae"},
    {"objectives"},
    {"config"},
    {"evaluation"},
    {"training"},
    {"runs"},
    {"evaluation.advice", "evaluation.mismatch", "evaluation.origin"},
    {"evaluation.assess", "evaluation.diagnose", "pictures", "bench", "sinks", "explorer"},
    {"follow", "exports"},
    {"experiment", "export", "importing"},
    {"members", "joining"},
    {"executors"},
    {"__init__"},
    {"studies"},
    {"comparison", "sweeps"},
    {"profiles"},
    {"cli"},
    {"completion"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
EXCEPTIONS = {
    # a machine says which vaectl it has
    ("base.far", "version"),
    # building blocks for models; the folder of models holds nothing but plugs
    ("models.mlp", "vae.networks"),
    ("models.conv", "vae.networks"),
    # a run and a model show themselves in a notebook
    ("runs.run", "pictures.canvas"),
    ("runs.run", "pictures.figures"),
    ("runs.trained", "pictures.canvas"),
    ("runs.trained", "pictures.sheets"),
    ("runs.trained", "pictures.style"),
}
PLUGS = (
    "data.sources",
    "executors",
    "exports",
    "likelihoods",
    "models",
    "objectives",
    "optimizers",
    "priors",
    "sinks",
)
MODULES = sorted(PACKAGE.rglob("*.py"))


def _path(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def _name(file: Path) -> str:
    """The dotted name of a module, below `vaectl`."""
    return _path(file).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


NAMES = {_name(file) for file in MODULES}


@cache
def _imports(file: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, by its dotted name."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from vaectl import x` asks for the part x, not for all that vaectl offers
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@cache
def _own_imports(file: Path) -> set[str]:
    """Every module of the package that a file imports, by its dotted name below `vaectl`."""
    found = set()
    for imported in _imports(file):
        first, _, name = imported.partition(".")
        if first == "vaectl":
            found.add(name if name in NAMES else name.rpartition(".")[0] or "__init__")
    return found - {_name(file)}


def _layer(name: str) -> str:
    """The layer of a module: its own, or that of its folder."""
    return name if name in LEVEL else name.partition(".")[0]


@pytest.mark.parametrize("file", MODULES, ids=_path)
def test_imports_point_one_way(file: Path) -> None:
    name = _name(file)
    here = _layer(name)
    assert here in LEVEL, f"{here} has no place in LAYERS"
    for imported in _own_imports(file):
        there = _layer(imported)
        if there != here and (name, imported) not in EXCEPTIONS:
            assert LEVEL[there] < LEVEL[here], f"{name} imports {imported}, which is not above"


def test_every_exception_is_one() -> None:
    used = {(_name(file), imported) for file in MODULES for imported in _own_imports(file)}
    assert used >= EXCEPTIONS
    for name, imported in EXCEPTIONS:
        assert LEVEL[_layer(imported)] >= LEVEL[_layer(name)]


def test_no_module_imports_itself_by_way_of_others() -> None:
    TopologicalSorter({_name(file): _own_imports(file) for file in MODULES}).prepare()


@pytest.mark.parametrize("folder", PLUGS)
def test_a_plug_is_named_by_nothing_outside_its_file(folder: str) -> None:
    for file in MODULES:
        plugs = {name for name in _own_imports(file) if name.startswith(f"{folder}.")}
        if not _name(file).startswith(folder):
            assert plugs <= {f"{folder}.base", f"{folder}._shared"}, file


def test_a_source_is_named_by_nothing_outside_its_file() -> None:
    from vaectl.data.sources.base import Source

    for file in MODULES:
        if "sources" not in file.parts:
            # examples in help texts name some of whatever kind of plug
            lines = [line for line in file.read_text().splitlines() if "Example: " not in line]
            for name, source in Source.known.items():
                named = rf"\b{re.escape(name)}:[\w./{{]" if source.placeholder else re.escape(name)
                assert not re.search(named, "\n".join(lines)), (file, name)


@pytest.mark.parametrize(
    ("package", "homes"),
    [
        ("tensorflow", {"data/sources/tfds.py"}),
        ("tensorflow_datasets", {"data/sources/tfds.py"}),
        (
            "PIL",
            {
                *("data/sources/images.py", "data/pictures.py"),
                *("pictures/animation.py", "sinks/film.py", "cli/mosaic.py"),
            },
        ),
        ("pyarrow", {"data/sources/table.py"}),
        ("orbax", {"runs/checkpoints.py"}),
        ("typer", {"cli"}),
        ("matplotlib", {"pictures", "base/surroundings.py"}),
        ("ruamel", {"config/documents.py"}),
        # the measures have an optimizer that does nothing; posteriors are fitted by Adam
        (
            "optax",
            {
                "optimizers",
                "training/program.py",
                "bench/measures.py",
                "evaluation/amortization.py",
            },
        ),
        ("flax", {"models", "priors", "vae"}),
        ("tensorboardX", {"sinks/tensorboard.py"}),
        ("mlflow", {"sinks/mlflow.py"}),
        ("trackio", {"sinks/trackio.py"}),
        ("ray", {"executors/ray.py"}),
        ("submitit", {"executors/slurm.py"}),
        ("rich", {"cli"}),
        ("safetensors", {"exports/safetensors.py"}),
        ("jax2onnx", {"exports/onnx.py"}),
        ("onnxruntime", {"exports/onnx.py"}),
        ("sklearn", {"evaluation/fitted.py"}),
    ],
)
def test_libraries_have_one_home(package: str, homes: set[str]) -> None:
    for file in MODULES:
        if any(module.split(".")[0] == package for module in _imports(file)):
            assert homes & {_path(file), _path(file).partition("/")[0]}, file


def test_nothing_that_could_be_code_is_loaded() -> None:
    for file in MODULES:
        names = {module.split(".")[0] for module in _imports(file)}
        assert not names & {"pickle", "marshal", "shelve", "dill", "joblib", "yaml"}, file
        calls = [
            node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)
        ]
        called = {ast.unparse(call.func) for call in calls} & {"eval", "exec"}
        # --plugin is there to run a file that the user names
        assert called <= ({"exec"} if _path(file) == "base/plugins.py" else set()), file
        loads = [ast.unparse(call) for call in calls if ast.unparse(call.func) == "np.load"]
        assert all(load.endswith("allow_pickle=False)") for load in loads), file


NO_JAX = (
    "data",
    "config",
    "runs/directory.py",
    "runs/names.py",
    *(
        f"pictures/{name}.py"
        for name in (
            *("animation", "canvas", "charts", "figures", "options", "search", "sheets", "style"),
            "traces",
        )
    ),
    "sinks",
)


@pytest.mark.parametrize("home", NO_JAX)
def test_these_know_no_jax(home: str) -> None:
    files = [file for file in MODULES if home in (_path(file), _path(file).partition("/")[0])]
    assert files
    for file in files:
        names = {module.split(".")[0] for module in _imports(file)}
        assert not names & {"jax", "flax", "optax"}, file


def _loaded(code: str) -> set[str]:
    """The packages that a piece of code loads in a fresh process."""
    command = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name.partition(".")[0] for name in output.split()}


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['vaectl', '--help']\n"
        "from vaectl import cli\n"
        "try: cli.main()\nexcept SystemExit: pass"
    )
    heavy = {"jax", "flax", "optax", "orbax", "numpy", "matplotlib", "pydantic", "tensorflow"}
    assert not _loaded(code) & heavy


def test_listing_runs_loads_no_jax(tmp_path: Path) -> None:
    with tarfile.open(Path(__file__).parent / "formats" / "run-1.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    code = (
        f"import sys; sys.argv = ['vaectl', 'runs', '--runs-dir', {str(tmp_path)!r}]\n"
        "from vaectl import cli\ncli.main()"
    )
    loaded = _loaded(code)
    assert "finished" in loaded  # a run was listed
    assert not loaded & {"jax", "flax", "optax", "orbax", "matplotlib"}


def test_the_readme_cites_this_version() -> None:
    assert f"  version = {{{VERSION}}}\n" in (ROOT / "README.md").read_text()


def test_the_manual_says_what_each_dependency_is_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[<>=]", each)[0] for each in project["dependencies"]}
    text = (PACKAGE / "README.md").read_text()
    sizes = text.partition("## What is installed")[2].partition("\n## ")[0]
    assert wanted <= {*re.findall(r"`([\w.-]+)`", sizes)}


def test_the_first_epoch_waits_for_no_library_that_it_does_not_need(tmp_path: Path) -> None:
    code = f"""
import os, pathlib, sys
from vaectl import config, experiment
from vaectl.training.fit import Epoch

def watch(event):
    if isinstance(event, Epoch):
        print(*sys.modules, flush=True)
        os._exit(0)

settings = config.Config(epochs=1, data=dict(train_size=100, validation_size=50))
experiment.run(settings, runs_dir=pathlib.Path({str(tmp_path)!r}), watch=watch)
"""
    loaded = _loaded(code)
    assert {"jax", "flax", "optax"} <= loaded
    assert not loaded & {"orbax", "matplotlib", "scipy", "pyarrow", "tensorflow_datasets"}


def test_reading_a_configuration_and_data_loads_no_jax_and_no_tensorflow() -> None:
    loaded = _loaded("from vaectl import config, data; data.load(config.Config().data)")
    assert not loaded & {"jax", "tensorflow", "tensorflow_datasets"}


def _anchors(page: Path) -> list[str]:
    """The anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def _links(page: Path) -> list[tuple[Path, str]]:
    """The links and pictures of a page inside the repository: a file, and an anchor in it or ""."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    parts = [link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    return [
        ((page.parent / place).resolve() if place else page, anchor)
        for place, _, anchor in parts
        if "://" not in place
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    anchors = _anchors(page)
    assert len(anchors) == len({*anchors}), "two headings of one name"
    for place, anchor in _links(page):
        assert place.exists(), place
        assert not anchor or anchor in _anchors(place), f"{place}#{anchor}"


def test_the_readme_leads_to_every_manual_and_each_one_back() -> None:
    readme, *manuals = PAGES
    assert len(manuals) > 10
    there = {place for place, _ in _links(readme)}
    for manual in manuals:
        assert manual in there, manual
        assert readme in {place for place, _ in _links(manual)}, manual
