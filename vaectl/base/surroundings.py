"""What surrounds a command - environment, current directory, interpreter - and its effect on it.

What would change results without a word is dropped before a library reads it; what users may want
although it changes bits is recorded, and named when a run is resumed. This module is imported
before all others: it must import nothing at its top that Python has not loaded by then.
"""

import os
import sys

KEPT = {
    "JAX_PLATFORMS",
    "JAX_CUDA_VISIBLE_DEVICES",
    "JAX_ROCM_VISIBLE_DEVICES",
    "JAX_COMPILATION_CACHE_DIR",
}
"""The settings of JAX that a command heeds: they choose a device and a cache, and change no bit."""

_PREFIXES = ("JAX_", "JAX2TF_", "FLAX_", "NNX_")
"""JAX and Flax read an environment variable for each of their options."""

_DROPPED = {
    "CHECK_VMA",  # options of JAX whose names have no prefix
    "EAGER_CONSTANT_FOLDING",
    "MOCK_NUM_GPU_PROCESSES",
    "MPLBACKEND",  # nothing is shown on a screen
    "EPATH_USE_TF",  # reads files by TensorFlow, which need not be installed
}

_RECORDED = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NPROC", "PJRT_NPROC", "NVIDIA_TF32_OVERRIDE")
_RECORDED_PREFIXES = ("ONEDNN_", "DNNL_", "CUBLAS", "CUDNN_", "TF_CUBLAS", "TF_CUDNN")
"""Read by XLA and the libraries below it; which of them change bits was measured, for those of a
CPU: another instruction set, another number of threads, another order of additions."""

FILES = 64
"""So many files must a process be able to open; training was seen to have 21 open at once."""
MORE_FILES = "raise the limit: ulimit -n 1024"


def settle() -> None:
    """Free this process of what surrounds it, before anything else is imported."""
    _leave_current_directory()
    for name in [name for name in os.environ if is_dropped(name)]:
        del os.environ[name]
    _calm_warnings()
    _keep_docstrings()
    _ignore_matplotlibrc()


def is_dropped(name: str) -> bool:
    """Tell whether an environment variable is kept from having an effect."""
    return name in _DROPPED or (name.startswith(_PREFIXES) and name not in KEPT)


def is_recorded(name: str) -> bool:
    """Tell whether an environment variable may change the last bits, and is heeded all the same."""
    return name in _RECORDED or name.startswith(_RECORDED_PREFIXES)


def recorded() -> dict[str, str]:
    """The environment variables that are set and may change the last bits of results."""
    found = {
        name: value
        for name, value in sorted(os.environ.items())
        if value.strip() and is_recorded(name)
    }
    flags = found.get("XLA_FLAGS", "").strip()
    if flags and not flags.startswith("-"):  # the name of a file that holds them
        try:
            with open(flags, encoding="utf-8", errors="replace") as file:
                found["XLA_FLAGS"] = f"{flags}: {file.read(10_000).strip()}"
        except OSError:
            pass  # XLA says so itself, and ends the process
    # JSON holds text only
    return {name: value.encode(errors="backslashreplace").decode() for name, value in found.items()}


def cpu_threads() -> int:
    """The number of threads that XLA computes with on a CPU: it changes the order of additions."""
    for name in ("PJRT_NPROC", "NPROC"):  # as XLA reads them
        try:
            return max(int(os.environ[name]), 1)
        except (KeyError, ValueError):
            continue
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_files() -> None:
    """Refuse to begin what would fail half way, in threads of libraries, for want of files.

    Raises:
        ConfigError: the process may open too few.
    """
    from vaectl.base.errors import ConfigError

    handles: list[int] = []
    try:
        while len(handles) < FILES:
            handles.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        problem = f"{error.strerror}: {len(handles)} more can be opened, and {FILES} are needed"
        raise ConfigError(problem, hint=MORE_FILES) from None
    finally:
        for handle in handles:
            os.close(handle)


def _leave_current_directory() -> None:
    """Import nothing from the current directory, where `python -m` looks first.

    Entries of PYTHONPATH stay if they are absolute: an empty or relative one means another
    directory each time.
    """
    try:
        here = os.getcwd()
    except OSError:  # it was deleted
        here = ""
    if not sys.flags.safe_path and sys.path[:1] in ([here], [""]):
        del sys.path[0]
    path = "" if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "")
    entries = path.split(os.pathsep) if path else []
    absolute = {entry for entry in entries if os.path.isabs(entry)}
    relative = {os.path.normpath(os.path.join(here, entry)) for entry in entries} - absolute
    sys.path[:] = [entry for entry in sys.path if entry not in relative and os.path.isabs(entry)]


def _calm_warnings() -> None:
    """Let no warning of a library end a command, whatever PYTHONWARNINGS or -W say."""
    import warnings

    if any(action == "error" for action, *_ in warnings.filters):
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning):
            warnings.simplefilter("ignore", category)
        warnings.simplefilter("ignore", ResourceWarning)


def _keep_docstrings() -> None:
    """Under `python -OO`, which strips docstrings, load this package with them: they are the help.

    Compiled files without docstrings, which Python keeps apart, are neither read nor written.
    """
    if sys.flags.optimize < 2:
        return
    from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
    from types import CodeType

    class WithDocstrings(SourceFileLoader):
        def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002  # a loader has one file
            source = self.get_data(self.path)
            code: CodeType = compile(source, self.path, "exec", dont_inherit=True, optimize=0)
            return code

    here = os.path.dirname(__file__)
    package = os.path.dirname(here)

    def finder(folder: str) -> FileFinder:
        if not os.path.isdir(folder) or os.path.commonpath([package, folder]) != package:
            raise ImportError
        return FileFinder(folder, (WithDocstrings, SOURCE_SUFFIXES))

    sys.path_hooks.insert(0, finder)
    for folder in (package, here):  # which this module itself was found by
        sys.path_importer_cache.pop(folder, None)


def _ignore_matplotlibrc() -> None:
    """Keep Matplotlib from reading styles of the user or of the current directory."""
    os.environ["MATPLOTLIBRC"] = os.devnull
    if not os.path.lexists("matplotlibrc"):
        return
    try:
        here = os.open(os.curdir, os.O_RDONLY)
    except OSError:  # a directory that may be entered, not read
        return
    os.chdir(os.sep)
    try:
        import matplotlib  # noqa: F401  # it looks there while it is imported, and first
    finally:
        os.fchdir(here)
        os.close(here)
