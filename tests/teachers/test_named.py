"""The teacher that the settings name, or the several that are one, and the environment that it plays in."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx_models import FLOAT, save
from samples import PROBES, SPACES, TINY, Agent
from small_agents import VECTOR, VECTORS
from stable_baselines3 import SAC

from kd_agent import KDError, distill, load_teacher
from kd_agent.environments.recipe import recipe_of
from kd_agent.environments.vector import spaces_of
from kd_agent.settings import DistillConfig, resolve
from kd_agent.teachers import load_named, load_one, named_recipe, observations_of_student


def refused(settings: dict[str, Any]) -> str:
    with pytest.raises(KDError) as caught:
        distill({**TINY, **settings})
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_teachers_that_do_not_go_together_are_named_both(agents: dict[str, Agent], tmp_path: Path) -> None:
    ppo, other = str(agents["Box"].path), str(agents["MultiBinary"].path)
    out = {"out": str(tmp_path / "run"), "env": PROBES["Box"]}
    sac = SAC("MlpPolicy", PROBES["Box"], policy_kwargs={"net_arch": [4]}, buffer_size=10)
    sac.save(tmp_path / "sac.zip")
    message = refused({**out, "teacher": [ppo, str(tmp_path / "sac.zip")]})
    assert ppo in message
    assert "sac.zip cannot teach together: one acts by diag_gaussian (2,), the other by squashed_gaussian" in message
    assert "one head" in message
    message = refused({**out, "teacher": [ppo, other]})
    assert f"{ppo} and {other} cannot teach together" in message
    assert "absent.zip" in refused({**out, "teacher": [ppo, str(tmp_path / "absent.zip")]})
    assert "--statistics is of one teacher" in refused({**out, "teacher": [ppo, ppo], "statistics": "x.pkl"})
    assert "did you mean 'mixture'" in refused({**out, "teacher": [ppo, ppo], "combine": "mixtur"})
    assert not (tmp_path / "run").exists()


def test_teachers_of_other_wrappers_or_sizes_are_named_with_both_environments(
    agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = str(agents["Discrete"].path), str(tmp_path / "two.zip")
    recipes = {one: recipe_of(PROBES["Discrete"]), two: recipe_of("CartPole-v1", {"sutton_barto_reward": True})}
    monkeypatch.setattr("kd_agent.teachers._named.recipe_for", lambda source, *rest: recipes[source])
    config = resolve(DistillConfig, {"env": PROBES["Discrete"], "teacher": [one, two]})
    with pytest.raises(KDError) as caught:
        named_recipe(config)
    assert str(caught.value) == (
        f"{one} and {two} cannot teach together: one plays in kd_envs/ProbeDiscrete-v0, the other in "
        "CartPole-v1 {'sutton_barto_reward': True}; teachers of one environment and the same wrappers would fit"
    )


def test_losses_of_a_layer_are_refused_because_several_teachers_have_none(agents: dict[str, Agent]) -> None:
    source = str(agents["Discrete"].path)
    settings = {"env": PROBES["Discrete"], "teacher": [source, source], "teacher_gate": False, "loss": "relation"}
    assert "needs a layer of the teacher" in refused(settings)


DICT_ENV = "kd_envs/ProbeDict-v0"


def test_a_single_key_of_the_student_keeps_its_name_and_several_are_a_part() -> None:
    space, _ = spaces_of(recipe_of(DICT_ENV))

    def shapes(*keys: str) -> dict[str, tuple[int, ...]]:
        config = resolve(DistillConfig, {"env": DICT_ENV, "student_keys": list(keys)})
        return {key: spec.shape for key, spec in observations_of_student(config, space).items()}

    assert shapes("half") == {"half": (2,)}
    assert shapes("half", "all") == shapes() == {"half": (2,), "all": (4,)}
    with pytest.raises(KDError, match="did you mean 'half'"):
        shapes("halv")


def test_a_teacher_of_one_key_reads_that_key_alone(agents: dict[str, Agent]) -> None:
    source = str(agents["Discrete"].path)
    spaces = spaces_of(recipe_of(DICT_ENV))
    config = resolve(DistillConfig, {"env": DICT_ENV, "teacher": source, "teacher_keys": ["all"]})
    teacher = load_named(config, spaces)
    plain = load_teacher(source)
    states = agents["Discrete"].observations()
    found = teacher({"all": states, "half": np.full((32, 2), np.nan, np.float32)}).params
    assert torch.equal(found, plain({"obs": states}).params)
    assert set(teacher.observations) == {"all"}
    config = resolve(DistillConfig, {"env": DICT_ENV, "teacher": source})
    with pytest.raises(KDError, match="observations are"):
        load_one(config, source, spaces)


def test_without_a_teacher_the_environment_is_the_one_that_the_settings_name() -> None:
    config = resolve(DistillConfig, {"env": "CartPole-v1", "env_kwargs": {"sutton_barto_reward": True}})
    assert named_recipe(config) == recipe_of("CartPole-v1", {"sutton_barto_reward": True})
    assert load_named(config, None) is None


def test_the_output_of_an_onnx_teacher_is_the_one_that_the_settings_name(tmp_path: Path) -> None:
    nodes = [("MatMul", ["x", "w"], "logits", {}), ("Neg", ["logits"], "other", {})]
    described = {"logits": (FLOAT, ["n", 4]), "other": (FLOAT, ["n", 4])}
    file = str(save(tmp_path / "t.onnx", nodes, {"x": (FLOAT, ["n", 4])}, described))
    settings = {"env": "CartPole-v1", "teacher": [file]}
    answers = {}
    for output in described:
        teacher = load_named(resolve(DistillConfig, {**settings, "onnx_output": output}), (VECTOR, SPACES["Discrete"]))
        assert teacher is not None
        answers[output] = teacher(VECTORS).params
    assert torch.equal(answers["other"], -answers["logits"])
