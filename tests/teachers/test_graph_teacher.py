"""A recurrent teacher's memory is carried from step to step and begins anew with each episode."""

from typing import Any

import numpy as np
import pytest
from small_agents import CASES, load, observations

from kd_agent.environments.recipe import recipe_of
from kd_agent.environments.vector import make_env
from kd_agent.evaluation.agreement import measure_agreement
from kd_agent.policies.file import from_bytes, to_bytes
from kd_agent.policies.policy import Policy
from kd_agent.rollouts.collect import collect
from kd_agent.rollouts.evaluate import evaluate


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("recurrent")])
def test_memory_is_carried_and_begins_anew_with_each_episode(case: str) -> None:
    model, env, teacher = load(case)
    policy = Policy(from_bytes(to_bytes(teacher.graph)))
    rng = np.random.default_rng(0)
    theirs: Any = None
    ours: Any = None
    saved: Any = None
    starts = np.ones(3, bool)
    for batch in observations(env, 120).reshape(40, 3, *env.observation_space.shape):
        wanted, theirs = model.predict(batch, theirs, starts, deterministic=True)
        actions, ours = teacher.predict(batch, ours, starts, deterministic=True)
        again, saved = policy.predict(batch, saved, starts, deterministic=True)
        np.testing.assert_allclose(actions, wanted, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(again, wanted, atol=1e-5)
        hidden = np.concatenate([np.asarray(array)[:, : array.shape[1] // 2] for array in ours], axis=-1)
        np.testing.assert_allclose(hidden, np.concatenate(theirs[0], axis=-1), atol=1e-4)
        starts = rng.random(3) < 0.2


def test_rollouts_carry_a_recurrent_teachers_memory_and_reset_it() -> None:
    _, _, teacher = load("recurrent ppo")
    student = Policy(teacher.graph)
    env = make_env("kd_envs/ProbeDiscrete-v0", 3)
    rollout = collect(env, teacher, student, steps=120, beta=0.5, exploration=0.1, seed=(4,))
    assert rollout.episode_start.sum() == 9
    state: Any = None
    for step in range(120):
        label = teacher({"obs": rollout.obs["obs"][step]}, state, rollout.episode_start[step])
        state = label.state
        np.testing.assert_allclose(label.params, rollout.params[step], atol=1e-6)
    forgetful = teacher({"obs": rollout.obs["obs"][49]}).params
    assert np.abs(forgetful.numpy() - rollout.params[49]).max() > 1e-3


def test_a_copy_of_a_recurrent_teacher_scores_the_same_and_is_as_close_as_can_be() -> None:
    _, _, teacher = load("recurrent ppo")
    student = Policy(teacher.graph)
    scores = [evaluate(player, "kd_envs/ProbeDiscrete-v0", seeds=range(20)).returns for player in (student, teacher)]
    np.testing.assert_allclose(*scores)
    close = measure_agreement(teacher, student, recipe_of("kd_envs/ProbeDiscrete-v0"))
    assert close.kl == pytest.approx(0, abs=1e-6)
    assert close.agreement == 1


def test_the_widest_and_the_last_layer_are_those_of_the_actor() -> None:
    _, _, sac = load("sac")  # layers of 8 and 6, then means and log standard deviations
    assert sac.widest_layer == 8
    assert sac.last_layer == "actor.latent_pi.2.active"
    output = sac({"obs": observations(load("sac")[1], 3)})
    assert output.layer("actor.latent_pi.2.active", "the teacher").shape == (3, 6)
    _, _, linear = load("ars linear")
    assert linear.widest_layer == 0
    assert linear.last_layer is None


def test_a_teacher_without_a_critic_tells_no_value_and_every_flat_register_is_a_feature() -> None:
    _, env, dqn = load("dqn")
    output = dqn({"obs": observations(env, 3)})
    assert output.value is None
    assert output.state is None
    assert {"obs", dqn.last_layer} <= set(output.features)
    assert not {"params", "value"} & set(output.features)
