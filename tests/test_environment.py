"""The commit is found, and a stranger's repository runs nothing."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from vaectl.runs.environment import git_commit

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")


class Repository(NamedTuple):
    """The repository of the current directory, and a program that leaves a sign when it runs."""

    path: Path
    canary: Path
    program: Path

    def git(self, *arguments: object, check: bool = True) -> str:
        command = ["git", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.path, capture_output=True, text=True, check=False, timeout=20
        )
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout.strip()

    def configure(self, key: str, value: object) -> None:
        self.git("config", key, value)

    @property
    def commit(self) -> str:
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    home, path = tmp_path / "home", tmp_path / "repository"
    for folder in (home, path):
        folder.mkdir()
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    canary, program = tmp_path / "canary", tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $0 $@ >> {canary}\nexit 1\n")
    program.chmod(0o755)
    (home / ".gitconfig").write_text("[user]\n\tname = a\n\temail = a@b\n")
    made = Repository(path, canary, program)
    made.git("init", "-q")
    (path / "file.txt").write_text("text\n")
    made.git("add", ".")
    made.git("commit", "-qm", "first")
    monkeypatch.chdir(path)
    return made


def _touch(repository: Repository) -> None:
    """Make git read the files again."""
    for file in repository.path.rglob("file.txt"):
        os.utime(file, (1, 1))


def test_the_commit_is_recorded_and_whether_files_differ(repository: Repository) -> None:
    assert git_commit() == repository.commit
    _touch(repository)
    assert git_commit() == repository.commit
    (repository.path / "new.txt").write_text("not known to git\n")
    assert git_commit() == repository.commit
    (repository.path / "file.txt").write_text("other\n")
    assert git_commit() == f"{repository.commit}-dirty"
    repository.git("add", "file.txt")
    assert git_commit() == f"{repository.commit}-dirty"


def test_without_a_commit_there_is_none(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert git_commit() is None  # no repository
    repository.git("init", "-q", empty)
    assert git_commit() is None  # no commit
    shutil.rmtree(empty)
    assert git_commit() is None  # no directory
    monkeypatch.chdir(repository.path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit() is None  # no git


def test_git_is_not_taken_from_the_current_directory(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(repository.program, repository.path / "git")
    monkeypatch.setenv("PATH", os.pathsep.join(["", ".", os.environ["PATH"]]))
    assert git_commit() is not None
    assert not repository.canary.exists()


def test_variables_of_a_hook_that_calls_us_name_no_other_repository(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = repository.commit
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(repository.program))
    assert git_commit() == commit


def _fsmonitor(repository: Repository) -> None:
    repository.configure("core.fsmonitor", repository.program)


def _filter(key: str, place: str, name: str = "evil") -> Callable[[Repository], None]:
    def apply(repository: Repository) -> None:
        scope = ["--global"] if place == "global" else []
        repository.git("config", *scope, f"filter.{name}.{key}", repository.program)
        repository.git("config", *scope, f"filter.{name}.required", "true")
        attributes = ".git/info/attributes" if place == "info" else ".gitattributes"
        (repository.path / attributes).parent.mkdir(exist_ok=True)
        (repository.path / attributes).write_text(f"* filter={name}\n")

    return apply


def _included(repository: Repository) -> None:
    _filter("clean", "local")(repository)
    config = repository.path / ".git/config"
    text = config.read_text()
    at = text.index("[filter")
    (repository.path / ".git/more").write_text(text[at:])
    config.write_text(text[:at] + f'[includeIf "gitdir:{repository.path}/"]\n\tpath = more\n')


def _attributes_file(repository: Repository) -> None:
    _filter("clean", "local")(repository)
    (repository.path / ".gitattributes").rename(repository.path / ".git/attributes")
    repository.configure("core.attributesFile", repository.path / ".git/attributes")


def _hooks(repository: Repository) -> None:
    for name in ("post-index-change", "reference-transaction", "pre-auto-gc", "fsmonitor-watchman"):
        shutil.copy(repository.program, repository.path / ".git/hooks" / name)


def _hooks_elsewhere(repository: Repository) -> None:
    _hooks(repository)
    shutil.copytree(repository.path / ".git/hooks", repository.path / "hooks")
    repository.configure("core.hooksPath", "hooks")


def _submodule(repository: Repository) -> None:
    inner = repository.path / "inner"
    shutil.copytree(repository.path, repository.path.parent / "copy")
    (repository.path.parent / "copy").rename(inner)
    repository.git("-C", inner, "config", "core.fsmonitor", repository.program)
    repository.git("-c", "advice.addEmbeddedRepo=false", "add", "inner")
    repository.git("-c", "core.fsmonitor=", "commit", "-qm", "with a submodule")
    repository.configure("submodule.inner.ignore", "none")
    repository.configure("diff.ignoreSubmodules", "none")
    repository.canary.unlink(missing_ok=True)


def _worktree(repository: Repository) -> None:
    other = repository.path / "other"
    other.mkdir()
    (repository.path / "file.txt").rename(other / "file.txt")
    repository.configure("core.worktree", other)
    _fsmonitor(repository)


def _partial(repository: Repository) -> None:
    """The tree of the commit is missing, and a promise says who has it."""
    repository.configure("core.repositoryFormatVersion", 1)
    repository.configure("extensions.partialClone", "origin")
    repository.configure("remote.origin.url", repository.path)
    repository.configure("remote.origin.promisor", "true")
    repository.configure("remote.origin.uploadpack", repository.program)
    tree = repository.git("rev-parse", "HEAD^{tree}")
    (repository.path / ".git/objects" / tree[:2] / tree[2:]).unlink()


def _partial_by_helper(repository: Repository) -> None:
    _partial(repository)
    repository.configure("remote.origin.url", f"ext::{repository.program}")
    repository.configure("protocol.ext.allow", "always")


def _partial_by_ssh(repository: Repository) -> None:
    _partial(repository)
    repository.configure("remote.origin.url", "ssh://nowhere.invalid/repository")
    repository.configure("core.sshCommand", repository.program)


def _programs(repository: Repository) -> None:
    """All that is named somewhere, and may run for one command or another."""
    for key in (
        *("core.pager", "pager.config", "pager.status", "pager.rev-parse", "core.editor"),
        *("diff.external", "diff.evil.command", "diff.evil.textconv", "gpg.program"),
        *("core.askPass", "credential.helper", "core.gitProxy", "core.sshCommand"),
        *("interactive.diffFilter", "sequence.editor", "uploadpack.packObjectsHook"),
        *("merge.evil.driver", "core.alternateRefsCommand"),
    ):
        repository.configure(key, repository.program)
    repository.configure("alias.status", f"!{repository.program}")
    repository.configure("alias.rev-parse", f"!{repository.program}")
    repository.configure("log.showSignature", "true")
    repository.configure("status.submoduleSummary", "true")
    (repository.path / ".gitattributes").write_text("* diff=evil merge=evil\n")


HOSTILE: dict[str, Callable[[Repository], None]] = {
    "fsmonitor": _fsmonitor,
    "clean": _filter("clean", "local"),
    "process": _filter("process", "local"),
    "global clean": _filter("clean", "global"),
    "global process": _filter("process", "global"),
    "info/attributes": _filter("clean", "info"),
    "a name with dots": _filter("clean", "local", "a.b.C"),
    "a name with =": _filter("clean", "local", "a=b"),
    "an included file": _included,
    "core.attributesFile": _attributes_file,
    "hooks": _hooks,
    "core.hooksPath": _hooks_elsewhere,
    "a submodule": _submodule,
    "core.worktree": _worktree,
    "a partial clone": _partial,
    "a partial clone by ext": _partial_by_helper,
    "a partial clone by ssh": _partial_by_ssh,
    "programs": _programs,
}
QUIET = {"programs"}
"""What git itself does not run for its status; it may one day."""


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_strangers_repository_runs_nothing(kind: str, repository: Repository) -> None:
    commit = repository.commit
    HOSTILE[kind](repository)
    if kind == "a submodule":
        commit = repository.git("-c", "core.fsmonitor=", "rev-parse", "HEAD")
    repository.canary.unlink(missing_ok=True)
    _touch(repository)
    found = git_commit()
    assert not repository.canary.exists(), repository.canary.read_text()
    assert found is not None
    assert found.removesuffix("-dirty") == commit
    _touch(repository)
    repository.git("status", check=False)
    assert repository.canary.exists() == (kind not in QUIET), "the repository is not hostile"


@pytest.mark.parametrize("kind", ["fsmonitor", "hooks", "core.hooksPath", "a submodule"])
def test_the_flag_is_right_in_a_strangers_repository(kind: str, repository: Repository) -> None:
    HOSTILE[kind](repository)
    commit = git_commit()
    assert commit is not None
    assert "dirty" not in commit
    (repository.path / "file.txt").write_text("other\n")
    assert git_commit() == f"{commit}-dirty"


def test_files_that_a_filter_made_are_not_dirty_until_touched(repository: Repository) -> None:
    """As those of Git LFS: most repositories that have filters are no strangers'."""
    repository.configure("filter.upper.clean", "tr a-z A-Z")
    (repository.path / ".gitattributes").write_text("*.txt filter=upper\n")
    _touch(repository)  # else git, which trusts no file as young as its index, reads it again
    repository.git("add", ".")
    repository.git("commit", "-qm", "by a filter")
    assert git_commit() == repository.commit
    (repository.path / "file.txt").write_text("other\n")
    assert git_commit() == f"{repository.commit}-dirty"
