"""Settings: layers, names, values in one line, and back to YAML."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from samples import ROOT

import kd_agent.environments.recipe  # noqa: F401 - registers every environment
from kd_agent import KDError
from kd_agent.settings import (
    DistillConfig,
    RunConfig,
    config_folder,
    env_defaults,
    resolve,
    to_yaml,
)
from kd_agent.settings.resolve import find_config
from kd_agent.settings.yaml_file import read_mapping


def written(folder: Path, text: str) -> str:
    path = folder / "settings.yaml"
    path.write_text(text)
    return str(path)


def resolved(text: str, folder: Path, **settings: Any) -> DistillConfig:
    return resolve(DistillConfig, {"env": "CartPole-v1", **settings}, written(folder, text))


@pytest.mark.parametrize(
    ("asked", "shipped"),
    [("LunarLander-v2", "LunarLander-v3"), ("kd_envs:kd_envs/CartPoleBlind-v0", "kd_envs/CartPoleBlind-v1")],
)
def test_another_version_of_an_environment_has_the_settings_of_the_one_that_is_shipped(
    asked: str, shipped: str
) -> None:
    assert env_defaults(asked) == env_defaults(shipped) != {}


@pytest.mark.parametrize("asked", ["LunarLander", "LunarLanderOther-v3", "*-v1", "-v3", "[a-z]*-v1"])
def test_no_other_environment_lends_its_settings(asked: str) -> None:
    assert env_defaults(asked) == {}


def test_the_folder_of_settings_is_found_in_a_checkout() -> None:
    assert config_folder() == ROOT / "configs"


def test_flags_win_over_the_file_over_the_environments_over_the_defaults(tmp_path: Path) -> None:
    text = "hidden: [8]\ntemperature: 2\ntraining: {gamma: 0.5, n_envs: 3}"
    config = resolved(text, tmp_path, temperature="4", training={"n_envs": "5"})
    shipped = env_defaults("CartPole-v1")["training"]
    assert config.temperature == 4
    assert config.hidden == (8,)
    assert (config.training.n_envs, config.training.gamma) == (5, 0.5)
    assert config.training.gae_lambda == shipped["gae_lambda"] != RunConfig(env="x").training.gae_lambda
    assert config.dropout == 0


def test_the_environment_may_come_from_the_file(tmp_path: Path) -> None:
    config = resolve(DistillConfig, {}, written(tmp_path, "env: Pendulum-v1"))
    assert config.env == "Pendulum-v1"
    assert config.training.use_sde
    with pytest.raises(KDError, match=r"env is missing \(--env\)"):
        resolve(DistillConfig, {})


@pytest.mark.parametrize(
    ("settings", "nearest"),
    [
        ({"temprature": 2}, "temperature"),
        ({"hiden": 2}, "hidden"),
        ({"training": {"gama": 0.9}}, "gamma"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(settings: dict[str, Any], nearest: str, tmp_path: Path) -> None:
    with pytest.raises(KDError, match=f"did you mean '{nearest}'"):
        resolve(DistillConfig, {"env": "CartPole-v1", **settings})
    with pytest.raises(KDError, match=f"did you mean '{nearest}'"):
        resolved(yaml.safe_dump(settings), tmp_path)


POSITIVE = ("temperature", "learning_rate", "margin", "env_steps", "rounds", "n_envs", "batch_size", "episodes")
BAD = [(name, value) for name in POSITIVE for value in ("0", "-1", "nan", "inf", "-inf", "much", "", {}, [1, 2])]
BAD += [
    ("seed", -1), ("seed", 2**31), ("seed", 0.5), ("l2", -1), ("l2", "nan"), ("dropout", 1), ("dropout", "nan"),
    ("exploration", 1.5), ("hidden", [16, -1]), ("hidden", [16, 0]), ("hidden", "nan"), ("hidden", [1] * 17),
    ("loss", {"kl": "nan"}), ("loss", {"kl": -1}), ("loss", "kl=much"), ("loss", "kl=["), ("loss", {}),
    ("env_kwargs", "a=["), ("env_kwargs", 3), ("activation", "gleu"), ("convention", "hintn"), ("env", ""), ("env", 3),
    ("training", {"gamma": "nan"}), ("training", {"target_return": "nan"}), ("training", {"target_return": "inf"}),
    ("training", {"log_std_init": "nan"}), ("training", {"log_std_init": "-inf"}), ("training", 3),
    ("training", {"ent_coef": -0.1}), ("progress", "maybe"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{n}={v!r}"[:40] for n, v in BAD])
def test_a_bad_value_is_named_in_one_line(name: str, value: Any) -> None:
    with pytest.raises(KDError) as caught:
        resolve(DistillConfig, {"env": "CartPole-v1", name: value})
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_survive_yaml(tmp_path: Path) -> None:
    config = resolve(
        DistillConfig,
        {
            "env": "LunarLander-v3",
            "hidden": [8, 4],
            "loss": ["kl=0.5", "ce"],
            "learning_rate": 1e-3,
            "l2": 1e-7,
            "teacher": "some.zip",
            "env_kwargs": ["gravity=-3.0", "wind"],
            "training": {"target_return": -1e20},
        },
    )
    assert resolve(DistillConfig, read_mapping(written(tmp_path, to_yaml(config)))) == config


def test_a_file_for_distillation_serves_the_training_of_its_teacher(tmp_path: Path) -> None:
    path = written(tmp_path, "temperature: 2\ntraining: {gamma: 0.5}")
    assert resolve(RunConfig, {"env": "CartPole-v1"}, path).training.gamma == 0.5
    with pytest.raises(KDError, match="temperature"):
        resolve(RunConfig, {"env": "CartPole-v1", "temperature": 2})


def test_a_wrong_value_of_a_field_of_several_types_is_named_by_the_field_alone() -> None:
    with pytest.raises(KDError, match=r"^temperature: .*got 'warm'"):
        resolve(DistillConfig, {"env": "CartPole-v1", "temperature": "warm"})


@pytest.mark.parametrize("name", ["methods/hint.yaml", "configs/methods/hint.yaml", "methods/hint", "LunarLander-v3"])
def test_a_shipped_file_is_found_by_its_name_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = find_config(name)
    assert found.is_relative_to(config_folder())
    assert found.stem == Path(name).name.removesuffix(".yaml")
    assert resolve(DistillConfig, {"env": "CartPole-v1", "teacher": "x"}, name)


def test_a_file_that_is_there_comes_before_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "hint.yaml").write_text("temperature: 3.5")
    assert resolve(DistillConfig, {"env": "CartPole-v1"}, "methods/hint.yaml").temperature == 3.5


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("methods/hin.yaml", "did you mean 'methods/hint.yaml'?"),
        ("mine.yaml", "mine.yaml: there is no such file"),
        ("../setup.py", "../setup.py: there is no such file"),
        ("configs/../../setup", "there is no such file"),
        ("/", "no such file"),
        ("", "no such file"),
    ],
)
def test_a_file_that_is_neither_there_nor_shipped_is_one_line(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KDError) as caught:
        read_mapping(find_config(name))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
