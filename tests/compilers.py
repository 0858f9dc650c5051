"""A machine without a C compiler, for tests of what then happens."""

import sys
from pathlib import Path

import pytest


def without_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the system's compilers and the ziglang package, for one test."""
    (tmp_path / "empty").mkdir(exist_ok=True)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setitem(sys.modules, "ziglang", None)
