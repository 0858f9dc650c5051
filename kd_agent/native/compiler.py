"""Generated C, compiled once and kept: a folder of the user's own, one library per content.

    $XDG_CACHE_HOME/kd_agent/<key>.so           (default ~/.cache)
    $XDG_CACHE_HOME/kd_agent/<key>.so.sha256    what the library's bytes were when it was compiled

Only text that kd_agent generated from a checked graph is compiled. The compiler is started without a
shell, in a fresh folder; the library appears under its name whole or not at all. One whose bytes are no
longer those, which could end the interpreter or be anybody's code, is compiled anew.
"""

import hashlib
import os
import platform
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path

from kd_agent.errors import KDError
from kd_agent.export import c_compiler

# Of -ffast-math only what changes no number: NaN, infinity and the order of sums stay as they are.
_FLAGS = ("-std=gnu99", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared", "-fvisibility=hidden")
_TIMEOUT = 120
"""Seconds that the compiler may take; one that hangs must not hang the agent."""


def library(sources: Mapping[str, str], main: str) -> Path:
    """The compiled library of some C files: the one kept from earlier, or a new one.

    Args:
        sources: Text by file name.
        main: The file to compile; it includes the others.

    Raises:
        KDError: There is no compiler, it fails, or the cache folder is not safely the user's own.
    """
    folder = cache_folder()
    path = folder / f"{_key(sources)}.so"
    seal = path.with_name(f"{path.name}.sha256")
    if _is_whole(path, seal):
        return path
    try:
        _build(sources, main, path, seal)
    except OSError as error:
        raise KDError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def _build(sources: Mapping[str, str], main: str, path: Path, seal: Path) -> None:
    """Compile to `path`, and write its hash to `seal`."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".build-") as build:
        for name, text in sources.items():
            (Path(build) / name).write_text(text)
        built = Path(build) / "library.so"
        _compile(Path(build), main, built.name)
        digest = Path(build) / "library.sha256"
        digest.write_text(hashlib.sha256(built.read_bytes()).hexdigest())
        # Within one folder, hence atomic: two processes that compile at once leave one whole library.
        os.replace(built, path)
        # After the library: a kill in between leaves one that nobody loads before it is compiled anew.
        os.replace(digest, seal)


def _is_whole(path: Path, seal: Path) -> bool:
    """Whether there is a library, with the bytes that its seal tells.

    Raises:
        KDError: One of the two is somebody else's, or writable by others.
    """
    raw = _own_bytes(path)
    digest = _own_bytes(seal)
    if raw is None or digest is None:
        return False
    return hashlib.sha256(raw).hexdigest().encode() == digest


def _own_bytes(path: Path) -> bytes | None:
    """A file's bytes; None where there is no such file, or a link, which is not followed."""
    if path.is_symlink() or not path.exists():
        return None
    _require_own(path)
    try:
        # Between the look and the opening the file may have become a link.
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            return file.read()
    except OSError:
        return None


def python_headers() -> Path | None:
    """The folder of `Python.h`, where it is installed."""
    folder = Path(sysconfig.get_path("include"))
    return folder if (folder / "Python.h").is_file() else None


def cache_folder() -> Path:
    """The user's cache folder, made if it is missing.

    Raises:
        KDError: It cannot be made, belongs to somebody else, or others can write to it. (Others who could
            merely look into it no longer can.)
    """
    if os.name != "posix":
        raise KDError("the native backend needs a POSIX system")
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG Base Directory Specification: relative paths in the variable are to be ignored.
    if not base.is_absolute():
        base = Path.home() / ".cache"
    folder = base / "kd_agent"
    try:
        base.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise KDError(f"{folder}: cannot be made ({error.strerror})") from None
    _require_own(folder)
    folder.chmod(0o700)
    return folder


def _require_own(path: Path) -> None:
    # lstat, not stat: a link that somebody else set would lead to a folder that is ours.
    status = path.lstat()
    kind = stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)
    if not kind or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise KDError(f"{path}: not safe to load code from: it must be yours, and writable by you alone")


def _compile(folder: Path, main: str, output: str) -> None:
    options = [*c_compiler(), *_FLAGS]
    headers = python_headers()
    if headers is not None:
        options.append(f"-I{headers}")
    # Python's own symbols are found when it loads the library; only macOS's linker has to be told.
    if sys.platform == "darwin":
        options += ["-undefined", "dynamic_lookup"]
    # x86's flag, then what some compilers for ARM have in its place, then neither.
    for tuning in (["-march=native"], ["-mcpu=native"], []):
        command = [*options, *tuning, main, "-o", output]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            raise KDError(f"the C compiler could not be run: {error}") from None
        if done.returncode == 0 and (folder / output).is_file():
            return
    errors = [line.strip() for line in done.stderr.splitlines() if "error" in line]
    message = errors[0] if errors else "no message"
    raise KDError(f"the C compiler {command[0]} failed: {message[:200]}")


def _key(sources: Mapping[str, str]) -> str:
    """Hash of all that decides the library: text, flags, this Python and this processor."""
    parts = [*_FLAGS, sysconfig.get_config_var("SOABI") or sys.version, platform.platform(), _processor()]
    for name, text in sorted(sources.items()):
        parts += [name, text]
    # A separator that no part can hold, so that what moves from one part to the next changes the hash.
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _processor() -> str:
    """What tells processors with different instructions apart."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    # "flags" on x86, "Features" on ARM; the same for every core.
    for line in lines:
        if line.startswith(("flags", "Features")):
            return line
    return ""
