"""Settings: layers, names, numbers, and YAML from anybody."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import yaml
from samples import ROOT

import kd_agent.environments.recipe  # noqa: F401 - registers every environment
from kd_agent import KDError
from kd_agent.policies.safe_files import read_capped
from kd_agent.settings import (
    DistillConfig,
    EvaluateConfig,
    FollowDriftConfig,
    KickstartConfig,
    RunConfig,
    TasksConfig,
    config_folder,
    env_defaults,
    plain,
    resolve,
    to_yaml,
)
from kd_agent.settings.yaml_file import read_mapping

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
METHODS = sorted((ROOT / "configs" / "methods").glob("*.yaml"))
COMMANDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "kickstart": (KickstartConfig, {"env": "LunarLander-v3"}),
    "ppd": (KickstartConfig, {"env": "LunarLander-v3"}),
    "tasks": (TasksConfig, {}),
    "follow_drift": (FollowDriftConfig, {"student": "student.safetensors", "teacher": "teacher.zip"}),
}
"""Whose settings a method's file has, and what they need beside it; those of `distill` otherwise."""


def written(folder: Path, text: str) -> str:
    path = folder / "settings.yaml"
    path.write_text(text)
    return str(path)


def resolved(text: str, folder: Path, **settings: Any) -> DistillConfig:
    return resolve(DistillConfig, {"env": "CartPole-v1", **settings}, written(folder, text))


def test_there_are_settings_for_every_environment_that_is_promised() -> None:
    promised = {"CartPole-v1", "Acrobot-v1", "MountainCar-v0", "Pendulum-v1", "LunarLander-v3",
                "LunarLanderContinuous-v3", "BipedalWalker-v3"}  # fmt: skip
    assert promised <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_file_resolves_for_every_command(path: Path) -> None:
    env_id = path.stem.replace("kd_envs-", "kd_envs/")
    assert env_id in gym.registry
    config = resolve(DistillConfig, {"env": env_id})
    given = read_mapping(path)
    training = given.get("training") or env_defaults(given["teacher_env"])["training"]
    assert training["total_steps"] == config.training.total_steps
    assert resolve(RunConfig, {"env": env_id}).training == config.training
    assert env_defaults(env_id) == given


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


@pytest.mark.parametrize("path", METHODS, ids=lambda p: p.stem)
def test_every_kind_of_distillation_has_a_file_that_resolves_and_is_told_of(path: Path) -> None:
    command, needed = COMMANDS.get(path.stem, (DistillConfig, {"env": "LunarLander-v3"}))
    given, found = read_mapping(path), resolve(command, needed, str(path))
    resolved = plain(found)
    for name, value in given.items():
        assert resolved[name] == value
    assert given.keys() - needed.keys()
    assert f"`{path.stem}`" in (ROOT / "docs" / "methods.md").read_text()


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


def test_numbers_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    assert yaml.safe_load("1e-3") == "1e-3"
    config = resolved("learning_rate: 1e-3\nenv_steps: 2e4\nl2: 1e-5", tmp_path)
    assert (config.learning_rate, config.env_steps, config.l2) == (1e-3, 20_000, 1e-5)
    assert type(config.env_steps) is int


@pytest.mark.parametrize(("given", "layers"), [
    ("0", ()), (0, ()), (["0"], ()), ([0], ()), (["16", "8"], (16, 8)), (32, (32,)), ([], ()),
])  # fmt: skip
def test_no_hidden_layer_is_written_as_zero(given: Any, layers: tuple[int, ...]) -> None:
    assert resolve(DistillConfig, {"env": "CartPole-v1", "hidden": given}).hidden == layers


@pytest.mark.parametrize(("given", "weights"), [
    ("kl", {"kl": 1}), (["kl=0.5", "ce"], {"kl": 0.5, "ce": 1}), ({"js": 2}, {"js": 2}),
])  # fmt: skip
def test_a_loss_is_a_name_or_a_weighted_sum(given: Any, weights: dict[str, float]) -> None:
    assert resolve(DistillConfig, {"env": "CartPole-v1", "loss": given}).loss == weights


@pytest.mark.parametrize(("settings", "nearest"), [
    ({"temprature": 2}, "temperature"), ({"hiden": 2}, "hidden"), ({"training": {"gama": 0.9}}, "gamma"),
])  # fmt: skip
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
        {"env": "LunarLander-v3", "hidden": [8, 4], "loss": ["kl=0.5", "ce"], "learning_rate": 1e-3, "l2": 1e-7,
         "teacher": "some.zip", "env_kwargs": ["gravity=-3.0", "wind"], "training": {"target_return": -1e20}},
    )  # fmt: skip
    assert resolve(DistillConfig, read_mapping(written(tmp_path, to_yaml(config)))) == config


def test_settings_are_frozen() -> None:
    config = resolve(DistillConfig, {"env": "CartPole-v1"})
    with pytest.raises(AttributeError):
        config.seed = 3  # type: ignore[misc]


def test_a_file_for_distillation_serves_the_training_of_its_teacher(tmp_path: Path) -> None:
    path = written(tmp_path, "temperature: 2\ntraining: {gamma: 0.5}")
    assert resolve(RunConfig, {"env": "CartPole-v1"}, path).training.gamma == 0.5
    with pytest.raises(KDError, match="temperature"):
        resolve(RunConfig, {"env": "CartPole-v1", "temperature": 2})


def test_the_environment_of_an_evaluation_is_optional() -> None:
    assert resolve(EvaluateConfig, {"student": "s.safetensors"}).env is None
    with pytest.raises(KDError, match="student is missing"):
        resolve(EvaluateConfig, {})


HOSTILE = {
    "an alias bomb": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
    "a tag that runs code": "a: !!python/object/apply:os.system ['true']",
    "a tag that imports": "a: !!python/name:os.system",
    "an object": "a: !!python/object/new:os.system ['true']",
    "a list": "[1, 2]",
    "a number": "3",
    "keys that are no text": "1: 2",
    "a key that is a list": "? [1, 2]\n: 3",
    "not YAML": "a: [1, 2",
    "a tab": "a:\n\t- b",
    "control characters": "a: \x00",
    "a wrong date": "a: 2024-99-99",
    "deep nesting": "[" * 50_000,
    "an ordered mapping of nonsense": "a: !!python/object/apply:collections.OrderedDict 3",
    "an ordered mapping of two": "a: !!python/object/apply:collections.OrderedDict [[[a, 1]], [[b, 2]]]",
    "an ordered mapping of threes": "a: !!python/object/apply:collections.OrderedDict [[[a, 1, 2]]]",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_yaml_is_refused_in_one_line(what: str, tmp_path: Path) -> None:
    path = written(tmp_path, HOSTILE[what])
    with pytest.raises(KDError) as caught:
        read_mapping(path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_of_ten_megabytes_missing_yaml_and_bytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="larger than the 1 MiB"):
        read_mapping(written(tmp_path, "a: 1\n" * 2_000_000))
    with pytest.raises(KDError, match="no such file"):
        read_mapping(tmp_path / "absent.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\xfa\x80")
    with pytest.raises(KDError, match=r"bytes\.yaml"):
        read_mapping(tmp_path / "bytes.yaml")


def test_the_ordered_mapping_of_the_rl_zoo_is_plain_data(tmp_path: Path) -> None:
    text = "!!python/object/apply:collections.OrderedDict\n- - - gamma\n    - 0.9\n  - - policy\n    - MlpPolicy\n"
    assert read_mapping(written(tmp_path, text)) == {"gamma": 0.9, "policy": "MlpPolicy"}
    assert read_mapping(written(tmp_path, "a: !!python/tuple [1, 2]")) == {"a": [1, 2]}
    assert read_mapping(written(tmp_path, "")) == {}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="no such file"):
        read_capped(tmp_path, 10)


def test_a_wrong_value_of_a_field_of_several_types_is_named_by_the_field_alone() -> None:
    with pytest.raises(KDError, match=r"^temperature: .*got 'warm'"):
        resolve(DistillConfig, {"env": "CartPole-v1", "temperature": "warm"})
