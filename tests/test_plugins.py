"""The directory is the registry."""

from pathlib import Path

import pytest
from samples import ROOT

from kd_agent import KDError, plugins

PACKAGE = ROOT / "kd_agent"
KINDS = ("export", "compress", "adapters", "losses", "students", "teachers", "teachers.combine", "learners")


def test_the_folder_is_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_disk = {p.stem for p in (PACKAGE / "losses").glob("[!_]*.py")}
    assert set(plugins.names("losses")) == on_disk >= {"kl", "ce", "js", "mse", "reverse_kl"}
    (tmp_path / "losses").mkdir()
    (tmp_path / "losses" / "brand_new.py").write_text("")
    (tmp_path / "losses" / "_private.py").write_text("")
    monkeypatch.setattr(plugins, "_ROOT", tmp_path)
    assert plugins.names("losses") == ["brand_new"]


@pytest.mark.parametrize(
    ("kind", "noun", "name", "nearest"),
    [
        ("losses", "loss", "reverse_lk", "reverse_kl"),
        ("students", "student", "mpl", "mlp"),
    ],
)
def test_an_unknown_plugin_is_answered_with_the_nearest(kind: str, noun: str, name: str, nearest: str) -> None:
    with pytest.raises(KDError, match=f"unknown {noun} '{name}'; did you mean '{nearest}'"):
        plugins.load(kind, name)


def test_a_plugin_name_cannot_leave_its_folder() -> None:
    with pytest.raises(KDError, match="unknown loss"):
        plugins.load("losses", "..cli")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_plugins_and_each_is_a_file(kind: str) -> None:
    names = plugins.names(kind)
    assert names == sorted(names)
    assert len(names) >= 2
    for name in names:
        assert (PACKAGE.joinpath(*kind.split(".")) / f"{name}.py").is_file()


@pytest.mark.parametrize("kind", ["losses", "teachers.combine", "compress"])
def test_the_module_is_the_file_of_its_name(kind: str) -> None:
    for name in plugins.names(kind):
        module = plugins.load(kind, name)
        assert Path(module.__file__ or "") == PACKAGE.joinpath(*kind.split(".")) / f"{name}.py"


@pytest.mark.parametrize("name", ["__init__", "_objective", "kl.py", "losses.kl", "", "kl/../ce"])
def test_what_is_not_a_plugins_name_is_refused(name: str) -> None:
    with pytest.raises(KDError, match="unknown loss"):
        plugins.load("losses", name)


def test_a_kind_that_is_none_has_no_plugins() -> None:
    assert plugins.names("nonsense") == []
    with pytest.raises(KDError, match=r"unknown nonsense 'kl'; there is none to choose$"):
        plugins.load("nonsense", "kl")
