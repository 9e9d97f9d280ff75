"""The environment of a command: variables, current directory, interpreter options.

Settings that would silently change results are removed before a library reads them. Some settings
change only the last bits, and users may want them: these are recorded, and reported when a run is
resumed. This module is imported before all others, so at its top it may only import modules that
Python has loaded already.
"""

import os
import sys

KEPT = {
    "JAX_PLATFORMS",
    "JAX_CUDA_VISIBLE_DEVICES",
    "JAX_ROCM_VISIBLE_DEVICES",
    "JAX_COMPILATION_CACHE_DIR",
}
"""Variables of JAX that take effect: they choose a device and a cache, and change no result."""

_PREFIXES = ("JAX_", "JAX2TF_", "FLAX_", "NNX_")
"""JAX and Flax read an environment variable for each of their options; all others are removed."""

_DROPPED = {
    "CHECK_VMA",  # options of JAX whose names have no prefix
    "EAGER_CONSTANT_FOLDING",
    "MOCK_NUM_GPU_PROCESSES",
    "MPLBACKEND",  # nothing is shown on a screen
    "EPATH_USE_TF",  # reads files by TensorFlow, which may not be installed
}

_RECORDED = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NPROC", "PJRT_NPROC", "NVIDIA_TF32_OVERRIDE")
_RECORDED_PREFIXES = ("ONEDNN_", "DNNL_", "CUBLAS", "CUDNN_", "TF_CUBLAS", "TF_CUDNN")
"""Variables that XLA and its libraries read. On a CPU they were measured to change the last bits,
by another instruction set, number of threads or order of additions."""

FILES = 64
"""The number of files that a process must still be able to open; training opens up to 21."""
MORE_FILES = "raise the limit: ulimit -n 1024"


def settle() -> None:
    """Remove what could change results from this process, before anything else is imported."""
    leave_current_directory()
    for name in [name for name in os.environ if is_dropped(name)]:
        del os.environ[name]
    _calm_warnings()
    _keep_docstrings()
    _ignore_matplotlibrc()


def is_dropped(name: str) -> bool:
    """Tell whether an environment variable is removed."""
    return name in _DROPPED or (name.startswith(_PREFIXES) and name not in KEPT)


def is_recorded(name: str) -> bool:
    """Tell whether an environment variable takes effect although it may change the last bits."""
    return name in _RECORDED or name.startswith(_RECORDED_PREFIXES)


def recorded() -> dict[str, str]:
    """Return the variables that are set and may change the last bits of results."""
    found = {
        name: value
        for name, value in sorted(os.environ.items())
        if value.strip() and is_recorded(name)
    }
    flags = found.get("XLA_FLAGS", "").strip()
    if flags and not flags.startswith("-"):  # the name of a file with the flags
        try:
            with open(flags, encoding="utf-8", errors="replace") as file:
                found["XLA_FLAGS"] = f"{flags}: {file.read(10_000).strip()}"
        except OSError:
            pass  # XLA reports it and ends the process
    # a value may not be text, which JSON needs
    return {name: value.encode(errors="backslashreplace").decode() for name, value in found.items()}


def cpu_threads() -> int:
    """Return the number of CPU threads of XLA, on which the order of additions depends."""
    for name in ("PJRT_NPROC", "NPROC"):  # in the order in which XLA reads them
        try:
            return max(int(os.environ[name]), 1)
        except (KeyError, ValueError):
            continue
    from vaectl.base import cores

    return len(cores.usable())


def processor() -> str:
    """Return the name of this machine's processor; the last bits of results depend on it."""
    import platform

    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(": ")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def spare_files() -> int:
    """Return the number of files that this process may open beside those of one training."""
    import resource

    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 10**6 if most == resource.RLIM_INFINITY else max(most - FILES, 0)


def check_files() -> None:
    """Check that enough files can be opened, before a library's thread fails for lack of them.

    Raises:
        ConfigError: the process may open too few files.
    """
    from vaectl.base.errors import ConfigError

    handles: list[int] = []
    try:
        while len(handles) < FILES:
            handles.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        problem = f"{error.strerror}: {FILES} are needed, and only {len(handles)} can be opened"
        raise ConfigError(problem, hint=MORE_FILES) from None
    finally:
        for handle in handles:
            os.close(handle)


def leave_current_directory() -> None:
    """Remove the current directory from the import path, where `python -m` puts it first.

    Absolute entries of PYTHONPATH stay; empty and relative ones depend on the current directory.
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
    """Prevent PYTHONWARNINGS or -W from turning a library's warning into an error."""
    import warnings

    if any(action == "error" for action, *_ in warnings.filters):
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning):
            warnings.simplefilter("ignore", category)
        warnings.simplefilter("ignore", ResourceWarning)


def _keep_docstrings() -> None:
    """Keep this package's docstrings under `python -OO`, because they are the help texts.

    Python's compiled files without docstrings are neither read nor written.
    """
    if sys.flags.optimize < 2:
        return
    from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
    from types import CodeType

    class WithDocstrings(SourceFileLoader):
        def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002  # a loader loads one file
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
    for folder in (package, here):  # finders that were used for this module
        sys.path_importer_cache.pop(folder, None)


def _ignore_matplotlibrc() -> None:
    """Keep Matplotlib from reading styles of the user or the current directory."""
    os.environ["MATPLOTLIBRC"] = os.devnull
    if not os.path.lexists("matplotlibrc"):
        return
    try:
        here = os.open(os.curdir, os.O_RDONLY)
    except OSError:  # a directory that may be entered but not read
        return
    os.chdir(os.sep)
    try:
        import matplotlib  # noqa: F401  # it reads that file while it is imported
    finally:
        os.fchdir(here)
        os.close(here)
