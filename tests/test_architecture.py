"""The import rules: data flows one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vaectl"

# each may import what stands above it; those in one line do not import each other
LAYERS = [
    {"errors", "terminal", "version"},
    {"surroundings"},
    {"config", "files", "formats", "memory", "streams", "interrupts", "record", "seals"},
    {"belongings", "configfile", "data", "environment", "latent"},
    {"devices", "model", "figures"},
    {"objective", "optimizers", "pictures", "charts"},
    {"evaluation", "rundir"},
    {"training", "runs"},
    {"checkpoints", "fitting", "floor"},
    {"footprint", "progress"},
    {"population"},
    {"measures"},
    {"bench"},
    {"recorder", "resumption"},
    {"trained"},
    {"experiment"},
    {"assessment", "look", "__init__"},
    {"comparison"},
    {"tables"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))


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


def _part(module: str) -> str | None:
    """The part of the package that a dotted name belongs to."""
    first, _, rest = module.partition(".")
    if first != "vaectl":
        return None
    return rest.partition(".")[0] or "__init__"


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_one_way(file: Path) -> None:
    here = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert here in LEVEL, f"{here} has no place in LAYERS"
    for module in _imports(file):
        part = _part(module)
        if part in LEVEL and part != here:
            assert LEVEL[part] < LEVEL[here], f"{here} imports {part}, which does not stand above"


@pytest.mark.parametrize(
    ("package", "home"),
    [
        ("tensorflow", "data"),
        ("tensorflow_datasets", "data"),
        ("orbax", "checkpoints.py"),
        ("typer", "cli"),
        ("matplotlib", ("figures.py", "pictures.py", "charts.py", "surroundings.py")),
        ("ruamel", "reading.py"),
        ("optax", ("optimizers.py", "training.py")),
    ],
)
def test_libraries_have_one_home(package: str, home: str | tuple[str, ...]) -> None:
    homes = (home,) if isinstance(home, str) else home
    users = {
        file.relative_to(PACKAGE).parts[0]
        for file in MODULES
        if any(module.split(".")[0] == package for module in _imports(file))
    }
    # to name a type is no use: these take or hand on a figure that somebody else draws
    assert users - {"rundir.py", "look.py"} <= set(homes)


def test_nothing_that_could_be_code_is_loaded() -> None:
    for file in MODULES:
        names = {module.split(".")[0] for module in _imports(file)}
        assert not names & {"pickle", "marshal", "shelve", "dill", "joblib", "yaml"}, file
        calls = [
            node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)
        ]
        assert not {ast.unparse(call.func) for call in calls} & {"eval", "exec", "np.load"}, file


NO_JAX = (
    "data",
    "config.py",
    "reading.py",
    "rundir.py",
    "figures.py",
    "pictures.py",
    "charts.py",
)


@pytest.mark.parametrize("home", NO_JAX)
def test_these_know_no_jax(home: str) -> None:
    files = [file for file in MODULES if file.relative_to(PACKAGE).parts[0] == home]
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


def test_reading_data_loads_no_jax_and_no_tensorflow() -> None:
    loaded = _loaded("from vaectl import config, data; data.load(config.Data())")
    assert not loaded & {"jax", "tensorflow", "tensorflow_datasets"}
