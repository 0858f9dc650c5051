"""Policy distillation on one page: a teacher, DAgger, a softened KL and a verdict. It reads from top to bottom.

python examples/one_page.py                      trains a teacher, distils it and compares the two: 20 seconds
python examples/one_page.py --teacher agent.zip  distils a teacher that there is

`kd_agent.distill` is this loop with what a year of use asks for: every action space, images, memory, resuming, checks.
"""

import argparse

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from kd_agent import evaluate, load_teacher

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--env", default="CartPole-v1", help="an environment of numbers with Discrete actions")
parser.add_argument("--teacher", help="a Stable-Baselines3 zip or a student, no memory; default: one is trained")
parser.add_argument("--teacher-steps", type=int, default=50_000, help="environment steps of its training")
parser.add_argument("--steps", type=int, default=8_000, help="environment steps of the distillation")
parser.add_argument("--rounds", type=int, default=4, help="of collecting, with a fit after each")
parser.add_argument("--fit-steps", type=int, default=1_000, help="gradient steps of a fit")
parser.add_argument("--temperature", type=float, default=2.0, help="softens both distributions")
parser.add_argument("--episodes", type=int, default=100, help="that teacher and student each play for the verdict")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()
torch.manual_seed(arguments.seed)
torch.set_num_threads(1)  # networks this small are slower on several
env = gym.make(arguments.env)
if not isinstance(env.action_space, gym.spaces.Discrete):
    parser.error("this page is for Discrete actions; kd_agent.distill serves the others")

# The teacher. Whatever file it comes from, it answers observations [B, O] with logits [B, A], and never learns.
if not arguments.teacher:
    arguments.teacher = "teacher.zip"
    worlds = make_vec_env(arguments.env, n_envs=8, seed=arguments.seed)
    rates = {"learning_rate": 1e-3, "n_steps": 128, "batch_size": 256, "gamma": 0.98, "gae_lambda": 0.8}
    PPO("MlpPolicy", worlds, seed=arguments.seed, device="cpu", **rates).learn(arguments.teacher_steps).save("teacher")
teacher = load_teacher(arguments.teacher, env=(env.observation_space, env.action_space))


class Student(nn.Module):
    """A hidden layer of 8 units; with Stable-Baselines3's `predict`, so that whatever plays a policy can play it."""

    def __init__(self, states):
        super().__init__()
        # A small network has no units to spare for the scale of its inputs: it is measured once, and then stays.
        self.register_buffer("mean", states.mean(0))
        self.register_buffer("std", states.std(0) + 1e-6)
        self.layers = nn.Sequential(nn.Linear(states.shape[1], 8), nn.Tanh(), nn.Linear(8, int(env.action_space.n)))

    def forward(self, states):
        """Logits [B, A] of states [B, O]."""
        return self.layers((states - self.mean) / self.std)

    @torch.no_grad()
    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        """Greedy actions [B], and the memory that it does not have."""
        return self(torch.as_tensor(observation, dtype=torch.float32)).argmax(-1).numpy(), None


def visit(driver, steps, seed):
    """The states [steps, O] that a policy comes to when it acts."""
    states = []
    observation, _ = env.reset(seed=seed)
    for _ in range(steps):
        states.append(observation)
        actions, _ = driver.predict(observation[None], deterministic=True)
        observation, _, terminated, truncated, _ = env.step(actions[0])
        if terminated or truncated:
            observation, _ = env.reset()
    return np.stack(states).astype(np.float32)


def softened_kl(student_logits, teacher_logits, temperature):
    """KL(teacher || student) at a temperature, in nats (Hinton et al. 2015)."""
    # T > 1 lifts what the teacher nearly did: how near says more of a state than the action that it took.
    p = torch.log_softmax(teacher_logits / temperature, -1)
    q = torch.log_softmax(student_logits / temperature, -1)
    # Gradients shrink by 1 / T^2; the factor keeps their size, so that T is not a learning rate in disguise.
    return temperature**2 * (p.exp() * (p - q)).sum(-1).mean()


# DAgger (Ross et al. 2011). The teacher drives the first round only: a student that errs a little comes to states in
# which the teacher never was, and where nobody told it what to do. So the student drives, and the teacher says of each
# state what it would have done. The rounds are aggregated, lest a fit to the last one unlearn those before.
driver = teacher
rounds = []
for number in range(arguments.rounds):
    states = visit(driver, arguments.steps // arguments.rounds, seed=arguments.seed + number)
    rounds.append((torch.from_numpy(states), teacher({"obs": states}).params))
    inputs, labels = map(torch.cat, zip(*rounds, strict=True))
    if number == 0:
        student = driver = Student(inputs)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    for _ in range(arguments.fit_steps):
        batch = torch.randint(len(inputs), (256,))
        loss = softened_kl(student(inputs[batch]), labels[batch], arguments.temperature)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"round {number + 1}: {len(inputs)} states, KL {softened_kl(student(inputs), labels, 1.0).item():.1e}")

# The verdict. Both play the same seeds, none of them used above, so that an episode's luck cancels in the difference.
# No finite sample shows two policies equal: what can be shown is that the loss is below a margin that counts as none.
seeds = range(arguments.seed + 10_000, arguments.seed + 10_000 + arguments.episodes)
expert, pupil, chance = (evaluate(player, arguments.env, seeds=seeds).returns for player in (teacher, student, None))
difference = pupil - expert
resampled = np.random.default_rng(0).choice(difference, (2_000, len(difference))).mean(1)  # a bootstrap over episodes
low, high = np.percentile(resampled, [2.5, 97.5])
margin = 0.05 * abs(expert.mean() - chance.mean())
verdict = "non-inferior" if low >= -margin else "inferior" if high < -margin else "undecided"
size = sum(parameter.numel() for parameter in student.parameters())
print(f"return: teacher {expert.mean():.1f}, student {pupil.mean():.1f}, random policy {chance.mean():.1f}")
print(f"parameters: teacher {teacher.origin.num_parameters}, student {size}")
print(f"{verdict}: difference {difference.mean():+.1f} [{low:.1f}, {high:.1f}] against a margin of {margin:.1f}")
