"""A guided training: its teacher fades after the warm-up, the best evaluation is kept, minibatches are counted."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from samples import HEADS, make_student

from kd_agent.ppo.guided_policy import Fade, Guidance
from kd_agent.ppo.guided_training import Best, Fading, gradient_steps


def fading(fade: Fade, guidance: Guidance, warmup: int, returns: list[float]) -> tuple[Fading, dict[str, float]]:
    """A fading whose model has had these returns, and what it records."""
    recorded: dict[str, float] = {}
    callback = Fading(guidance, fade, warmup)
    logger = SimpleNamespace(record=lambda name, value: recorded.update({name: value}))
    callback.model = SimpleNamespace(logger=logger, ep_info_buffer=[{"r": score} for score in returns])  # type: ignore[assignment]
    return callback, recorded


def test_the_weight_is_whole_during_the_warm_up_and_falls_after_it() -> None:
    guidance = Guidance(2.0)
    callback, recorded = fading(Fade("linear", 2.0, over=100), guidance, warmup=50, returns=[])
    seen = []
    for callback.num_timesteps in (20, 50, 100, 150, 200):
        callback._on_rollout_end()
        seen.append((guidance.warming, guidance.weight))
    assert seen == [(True, 2.0), (True, 2.0), (False, 1.0), (False, 0.0), (False, 0.0)]
    assert recorded == {"kickstart/weight": 0.0, "kickstart/warming": 0.0}


def test_an_adaptive_weight_knows_the_mean_return_of_the_training() -> None:
    guidance = Guidance(1.0, kl=0.3)
    adaptive = Fade("adaptive", 1.0, over=1, teacher=100.0, random=0.0)
    callback, recorded = fading(adaptive, guidance, warmup=0, returns=[50.0, 100.0])
    callback.num_timesteps = 1
    callback._on_rollout_end()
    assert guidance.weight == recorded["kickstart/weight"] == 0.25
    assert recorded["kickstart/kl"] == 0.3


def test_the_best_is_what_was_kept_and_the_player_what_there_is() -> None:
    one, two = (make_student(HEADS["categorical"], hidden=(5,), seed=seed).graph() for seed in (1, 2))
    policy: Any = SimpleNamespace(program=lambda: one)
    best = Best(policy)
    policy.program = lambda: two
    assert best.program is one
    assert best.player().graph is two
    best.keep()
    assert best.program is two


@pytest.mark.parametrize(("batch_size", "minibatches"), [(8, 4), (10, 4), (32, 1)])
def test_every_minibatch_counts_the_last_small_one_too(batch_size: int, minibatches: int) -> None:
    model = SimpleNamespace(n_steps=16, n_envs=2, batch_size=batch_size, _n_updates=3)
    assert gradient_steps(model) == 3 * minibatches == 3 * int(np.ceil(32 / batch_size))
