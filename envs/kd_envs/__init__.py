"""kd_agent's own environments; importing this package registers them with Gymnasium."""

from gymnasium.envs.registration import register, spec

for _space in ("Discrete", "MultiDiscrete", "MultiBinary", "Box"):
    register(f"kd_envs/Probe{_space}-v0", "kd_envs.probe:ProbeEnv", kwargs={"action": _space}, max_episode_steps=50)
register("kd_envs/ProbeDict-v0", "kd_envs.probe:ProbeDictEnv", max_episode_steps=50)

# RL Zoo's names for these, which is why they are in no namespace.
_WITHOUT_VELOCITIES = (
    "CartPole-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
    "LunarLander-v3",
    "LunarLanderContinuous-v3",
)
for _base in _WITHOUT_VELOCITIES:
    register(_base.replace("-v", "NoVel-v"), "kd_envs.wrappers:without_velocities", kwargs={"base": _base})

register("kd_envs/LunarLanderDrift-v3", "kd_envs.drift:DriftingLander", max_episode_steps=1000, reward_threshold=200)
register("kd_envs/LunarLanderWorlds-v3", "kd_envs.worlds:ManyWorldsLander", max_episode_steps=1000)
for _base in ("LunarLander-v3", "CartPole-v1"):
    for _view, _maker in (("Pixels", "with_pixels"), ("Blind", "with_positions")):
        # No time limit here: the plain environment inside has its own.
        register(
            f"kd_envs/{_base.replace('-v', f'{_view}-v')}",
            f"kd_envs.modalities:{_maker}",
            kwargs={"base": _base},
            reward_threshold=spec(_base).reward_threshold,
        )
