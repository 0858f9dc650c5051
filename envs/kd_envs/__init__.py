"""kd_agent's own environments; importing this package registers them with Gymnasium."""

from gymnasium.envs.registration import register

for _space in ("Discrete", "MultiDiscrete", "MultiBinary", "Box"):
    register(f"kd_envs/Probe{_space}-v0", "kd_envs.probe:ProbeEnv", kwargs={"action": _space}, max_episode_steps=50)
