"""Which packages a wheel holds: all that are found, so that a new room or plug-in folder cannot be forgotten.

Everything else about the project stands in pyproject.toml, which cannot say "found here, and that folder under
another name": the shipped settings lie in configs/ and are installed as `kd_agent.configs`.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["kd_agent", "kd_agent.*"]), *find_packages("envs"), "kd_agent.configs"],
    package_dir={"kd_agent.configs": "configs", "kd_envs": "envs/kd_envs"},
)
