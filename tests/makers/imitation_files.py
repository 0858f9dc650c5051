"""Write policies of imitation, and what they do: `python tests/makers/imitation_files.py OUT`.

Made with imitation 1.0.1 (MIT, Center for Human-Compatible AI), stable-baselines3 2.2.1, gymnasium 0.29.1 and torch
2.13.0, in an environment of their own. Its own trainers clone a simple expert for a moment, and save in each of their
ways: `policy.save` (a dict), `save_policy` (a whole module, what `reconstruct_policy` loads) and DAgger's
`save_trainer` (the trainer with the student inside). Beside each lie 1,000 observations and the policy's own greedy
actions.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from imitation.algorithms.bc import BC
from imitation.algorithms.dagger import DAggerTrainer
from imitation.data.types import Transitions
from imitation.policies.base import FeedForward32Policy, NormalizeFeaturesExtractor
from imitation.util.util import save_policy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv

POLE = Box(-np.inf, np.inf, (4,), np.float32)
PENDULUM = Box(-np.inf, np.inf, (3,), np.float32), Box(-2, 2, (1,), np.float32)


def demonstrations(observed: int, discrete: bool) -> Transitions:
    """What a simple expert did."""
    rng = np.random.default_rng(0)
    observations = rng.normal(0.5, 1.5, (512, observed)).astype(np.float32)
    score = observations @ np.arange(1, observed + 1)
    actions = (score > 1).astype(np.int64) if discrete else np.clip(score[:, None], -2, 2).astype(np.float32)
    infos = np.array([{}] * len(observations))
    return Transitions(observations, actions, infos, observations, np.zeros(len(observations), bool))


def clone(observation_space, action_space, policy) -> BC:
    """Behaviour cloning of the expert."""
    demos = demonstrations(observation_space.shape[0], isinstance(action_space, Discrete))
    settings = {"observation_space": observation_space, "action_space": action_space, "demonstrations": demos}
    trainer = BC(**settings, policy=policy, rng=np.random.default_rng(0), batch_size=32, device="cpu")
    trainer.train(n_epochs=3, progress_bar=False)
    return trainer


def answer(policy, path: Path) -> None:
    """Ask for the greedy actions of 1,000 observations."""
    policy.eval()
    rng = np.random.default_rng(1)
    # Of half precision, so that the files are small.
    observations = rng.normal(0, 1.5, (1000, policy.observation_space.shape[0])).astype(np.float16)
    actions, _ = policy.predict(observations.astype(np.float32), deterministic=True)
    np.savez_compressed(path, observations=observations, actions=actions)


def small(observation_space, action_space, kind=ActorCriticPolicy, **kwargs):
    """A policy of few units."""
    return kind(observation_space, action_space, lambda _: 1e-3, net_arch=[8, 6], **kwargs)


def main(out: Path) -> None:
    """Write all."""
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    trainer = clone(POLE, Discrete(2), FeedForward32Policy(POLE, Discrete(2), lambda _: 1e-3))
    trainer.policy.save(str(out / "bc_saved.pt"))
    answer(trainer.policy, out / "bc_saved_answers.npz")
    trainer = clone(*PENDULUM, small(*PENDULUM, activation_fn=torch.nn.ReLU))
    save_policy(trainer.policy, out / "bc_module.pt")
    answer(trainer.policy, out / "bc_module_answers.npz")
    normal = small(*PENDULUM, features_extractor_class=NormalizeFeaturesExtractor)
    trainer = clone(*PENDULUM, normal)
    save_policy(trainer.policy, out / "bc_normal.pt")
    answer(trainer.policy, out / "bc_normal_answers.npz")
    world = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")])
    trainer = clone(world.observation_space, world.action_space, small(world.observation_space, world.action_space))
    with tempfile.TemporaryDirectory() as folder:
        # A relative path, for the trainer's file names it.
        os.chdir(folder)
        dagger = DAggerTrainer(venv=world, scratch_dir="dagger", bc_trainer=trainer, rng=np.random.default_rng(0))
        checkpoint, policy = dagger.save_trainer()
        shutil.copy(policy, out / "dagger_policy.pt")
        shutil.copy(checkpoint, out / "dagger_trainer.pt")
    for name in ("dagger_policy", "dagger_trainer"):
        answer(trainer.policy, out / f"{name}_answers.npz")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
