"""Compiling: once for each content, into a folder of one's own, with an error of one line where it cannot be."""

import ctypes
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from compilers import without_compiler
from samples import make_graph

from kd_agent import KDError, load_policy
from kd_agent.native import compiler
from kd_agent.native.policy import NativePolicy
from kd_agent.policies import file as graph_file

ANSWER = {
    "answer.h": "#define ANSWER 42\n",
    "answer.c": '#include "answer.h"\n__attribute__((visibility("default"))) int answer(void) { return ANSWER; }\n',
}


def test_a_library_is_compiled_once_and_then_needs_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    student = graph_file.write(make_graph(), tmp_path / "s.safetensors")
    assert load_policy(student, backend="native").backend == "native"
    folder = tmp_path / "kd_agent"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = sorted(folder.iterdir())
    assert [path.name.partition(".")[2] for path in files] == ["so", "so.sha256"]
    without_compiler(tmp_path, monkeypatch)
    assert load_policy(student, backend="auto").backend == "native"
    assert sorted(folder.iterdir()) == files
    other = graph_file.write(make_graph(seed=3), tmp_path / "other.safetensors")
    assert load_policy(other, backend="auto").backend == "numpy"


@pytest.mark.parametrize("fault", ["writable by others", "a link", "a file", "a library writable by others"])
def test_code_is_loaded_from_a_folder_of_ones_own_only(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "kd_agent"
    if fault == "writable by others":
        folder.mkdir()
        folder.chmod(0o777)
    elif fault == "a link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    elif fault == "a file":
        folder.write_text("")
    else:
        NativePolicy(make_graph())
        next(folder.glob("*.so")).chmod(0o777)
    with pytest.raises(KDError, match="kd_agent"):
        NativePolicy(make_graph())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_somebody_elses_cache_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "kd_agent").mkdir(mode=0o700)
    os.chown(tmp_path / "kd_agent", 12345, 12345)
    with pytest.raises(KDError, match="must be yours"):
        NativePolicy(make_graph())


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "kd_agent"


def test_a_library_does_what_its_sources_say(own_cache: Path) -> None:
    path = compiler.library(ANSWER, "answer.c")
    assert path.parent == own_cache
    assert ctypes.CDLL(str(path)).answer() == 42


def test_another_text_is_another_library(own_cache: Path) -> None:
    first = compiler.library(ANSWER, "answer.c")
    other = compiler.library({**ANSWER, "answer.h": "#define ANSWER 43\n"}, "answer.c")
    assert first != other
    assert ctypes.CDLL(str(other)).answer() == 43
    seals = [Path(f"{path}.sha256") for path in (first, other)]
    assert sorted(own_cache.iterdir()) == sorted([first, other, *seals])


PLANTED = {"planted.c": '__attribute__((visibility("default"))) int answer(void) { return 13; }\n'}


def _spoil(path: Path, fault: str) -> None:
    raw = path.read_bytes()
    if fault == "truncated":
        path.write_bytes(raw[: len(raw) // 2])
    elif fault == "empty":
        path.write_bytes(b"")
    elif fault == "a flipped bit":
        middle = len(raw) // 2
        path.write_bytes(raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :])
    elif fault == "without its seal":
        Path(f"{path}.sha256").unlink()
    elif fault == "an empty seal":
        Path(f"{path}.sha256").write_text("")
    elif fault == "another library's seal":
        Path(f"{path}.sha256").write_text("0" * 64)
    else:
        other = compiler.library(PLANTED, "planted.c")
        path.unlink()
        path.symlink_to(other)
        seal = Path(f"{path}.sha256")
        seal.unlink()
        seal.symlink_to(f"{other}.sha256")


@pytest.mark.parametrize(
    "fault",
    ["truncated", "empty", "a flipped bit", "without its seal", "an empty seal", "another library's seal", "links"],
)
def test_a_library_that_is_not_what_was_compiled_is_compiled_anew(fault: str, own_cache: Path) -> None:
    path = compiler.library(ANSWER, "answer.c")
    whole = path.read_bytes()
    _spoil(path, fault)
    assert compiler.library(ANSWER, "answer.c") == path
    assert path.read_bytes() == whole
    assert not path.is_symlink()
    before = path.stat().st_mtime_ns
    assert compiler.library(ANSWER, "answer.c") == path
    assert path.stat().st_mtime_ns == before  # whole again, so it stays
    assert ctypes.CDLL(str(path)).answer() == 42
    if fault == "links":
        assert ctypes.CDLL(str(compiler.library(PLANTED, "planted.c"))).answer() == 13  # untouched by what led to it


@pytest.mark.parametrize("backend", ["native", "auto"])
def test_a_damaged_library_is_never_loaded_whatever_the_backend(
    backend: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = graph_file.write(make_graph(), own_cache.parent / "s.safetensors")
    action = load_policy(student, backend=backend).act([0.1, 0.2, 0.3, 0.4])
    [path] = own_cache.glob("*.so")
    raw = path.read_bytes()
    for damaged in (raw[:4096], raw[:-1], raw + b"x", b"", raw[:2000] + bytes(len(raw) - 2000)):
        path.unlink()  # a new file: this process has the old one's bytes mapped
        path.write_bytes(damaged)
        policy = load_policy(student, backend=backend)
        assert (policy.backend, policy.act([0.1, 0.2, 0.3, 0.4])) == ("native", action)
        assert path.read_bytes() == raw
    path.unlink()
    path.write_bytes(raw[:4096])
    without_compiler(own_cache.parent, monkeypatch)
    if backend == "auto":
        assert load_policy(student, backend=backend).backend == "numpy"
        return
    with pytest.raises(KDError, match="no C compiler found"):
        load_policy(student, backend=backend)


def test_the_seal_is_written_after_the_library(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def die_after_the_library(source: Path, target: Path) -> None:
        if target.suffix != ".so":
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(compiler.os, "replace", die_after_the_library)
        with pytest.raises(KeyboardInterrupt):
            compiler.library(ANSWER, "answer.c")
    assert [path.suffix for path in own_cache.iterdir()] == [".so"]
    assert ctypes.CDLL(str(compiler.library(ANSWER, "answer.c"))).answer() == 42


def test_a_library_that_cannot_be_written_is_one_line(own_cache: Path) -> None:
    path = compiler.library(ANSWER, "answer.c")
    path.unlink()
    path.mkdir()
    with pytest.raises(KDError, match=r"\.so: cannot be written \(Is a directory\)"):
        compiler.library(ANSWER, "answer.c")


def test_processes_that_compile_at_once_leave_a_whole_library(own_cache: Path) -> None:
    code = f"from kd_agent.native import compiler; print(compiler.library({ANSWER!r}, 'answer.c'))"
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = {process.communicate(timeout=60)[0].strip() for process in started}
    assert [process.returncode for process in started] == [0] * 4
    assert said == {str(compiler.library(ANSWER, "answer.c"))}
    assert len(list(own_cache.iterdir())) == 2


def test_a_cache_folder_that_others_could_look_into_is_closed_to_them(own_cache: Path) -> None:
    own_cache.mkdir(mode=0o755)
    own_cache.chmod(0o755)
    assert stat.S_IMODE(compiler.cache_folder().stat().st_mode) == 0o700


def test_text_cannot_move_between_files_unnoticed() -> None:
    assert compiler._key({"a": "one", "b": "two"}) != compiler._key({"a": "oneb", "": "two"})
    assert compiler._key({"a": "one", "b": "two"}) == compiler._key({"b": "two", "a": "one"})


def test_an_error_of_the_compiler_is_told_in_one_line_and_leaves_nothing(own_cache: Path) -> None:
    with pytest.raises(KDError, match=r"the C compiler .* failed: .*error") as caught:
        compiler.library({"wrong.c": "int wrong(void) { return nothing; }\n"}, "wrong.c")
    assert "\n" not in str(caught.value)
    assert list(own_cache.iterdir()) == []


@pytest.mark.parametrize("error", [OSError("no memory"), subprocess.TimeoutExpired("cc", 120)])
def test_a_compiler_that_cannot_run_is_an_error(
    error: Exception, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(compiler.subprocess, "run", fail)
    with pytest.raises(KDError, match="the C compiler could not be run"):
        compiler.library(ANSWER, "answer.c")
    assert list(own_cache.iterdir()) == []


def test_tuning_that_the_compiler_does_not_know_is_left_out(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, tried = subprocess.run, []

    def picky(command: list[str], **options: object) -> object:
        tried.append(command)
        if any(flag.endswith("=native") for flag in command):
            return subprocess.CompletedProcess(command, 1, "", "error: unknown flag")
        return run(command, **options)

    monkeypatch.setattr(compiler.subprocess, "run", picky)
    assert ctypes.CDLL(str(compiler.library(ANSWER, "answer.c"))).answer() == 42
    assert len(tried) == 3


@pytest.mark.parametrize("configured", ["", "relative/folder"])
def test_a_cache_home_that_is_not_absolute_is_ignored(
    configured: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", configured)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compiler.cache_folder() == tmp_path / ".cache" / "kd_agent"


def test_a_system_that_is_not_posix_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler.os, "name", "nt")
    with pytest.raises(KDError, match="needs a POSIX system"):
        compiler.cache_folder()
