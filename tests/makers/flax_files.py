"""Write parameters of Brax and Flax, and what they answer: `python tests/makers/flax_files.py OUT`.

Made with brax 0.14.2 and flax 0.12.8 (Apache 2.0, Google), jax 0.10.2 and safetensors 0.8, in an environment of their
own. Brax's networks are built by its own factories, and its running statistics have seen what its own `update` was
shown; Flax's are modules of `flax.linen`. Saved are the trees of parameters by `flax.serialization.to_bytes`
(`.msgpack`), by `safetensors.flax.save_file` of the flattened tree, and by Brax's own `model.save_params` (`.pkl`).
Beside each lie 1,000 observations and the greedy actions.
"""

import sys
from pathlib import Path

import jax
import numpy as np
from brax.io import model
from brax.training.acme import running_statistics, specs
from brax.training.agents.ppo import networks as ppo
from brax.training.agents.sac import networks as sac
from flax import linen, serialization, traverse_util
from jax import numpy as jnp
from safetensors.flax import save_file

OBSERVED, ACTIONS = 3, 1


class Choice(linen.Module):
    """Logits, by three layers."""

    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Dense(8)(x))
        x = linen.relu(linen.Dense(6)(x))
        return linen.Dense(2)(x)


class ActorCritic(linen.Module):
    """Actor and critic in one module, as PureJaxRL has them."""

    @linen.compact
    def __call__(self, x):
        mean = linen.tanh(linen.Dense(8)(x))
        mean = linen.tanh(linen.Dense(6)(mean))
        mean = linen.Dense(ACTIONS)(mean)
        self.param("log_std", lambda _: jnp.full((ACTIONS,), -0.5))
        value = linen.tanh(linen.Dense(8)(x))
        return mean, linen.Dense(1)(value)


def observed(size: int) -> np.ndarray:
    """1,000 observations, of half precision so that the files are small."""
    return np.random.default_rng(1).normal(0.5, 1.5, (1000, size)).astype(np.float16)


def answered(path: Path, observations: np.ndarray, actions, **more) -> None:
    """Write what was asked and said."""
    np.savez_compressed(path, observations=observations, actions=np.asarray(actions), **more)


def shaken(params):
    """Biases that are not 0."""
    leaves, tree = jax.tree_util.tree_flatten(params)
    keys = jax.random.split(jax.random.PRNGKey(7), len(leaves))
    shifted = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree_util.tree_unflatten(tree, shifted)


def brax(name: str, factory, inference, out: Path) -> None:
    """One of Brax's agents."""
    networks = factory(OBSERVED, ACTIONS, preprocess_observations_fn=running_statistics.normalize)
    statistics = running_statistics.init_state(specs.Array((OBSERVED,), jnp.dtype("float32")))
    shown = np.random.default_rng(0).normal([1, 0, -2], [1, 3, 0.5], (512, OBSERVED)).astype(np.float32)
    statistics = running_statistics.update(statistics, jnp.asarray(shown))
    params = (statistics, shaken(networks.policy_network.init(jax.random.PRNGKey(0))))
    observations = observed(OBSERVED)
    act = inference(networks)(params, deterministic=True)
    actions, _ = act(jnp.asarray(observations, jnp.float32), jax.random.PRNGKey(0))
    logits = networks.policy_network.apply(*params, jnp.asarray(observations, jnp.float32))
    std = networks.parametric_action_distribution.create_dist(logits).scale
    (out / f"{name}.msgpack").write_bytes(serialization.to_bytes(params))
    model.save_params(str(out / f"{name}.pkl"), params)
    tree = traverse_util.flatten_dict(serialization.to_state_dict(params), sep="/")
    save_file({key: jnp.asarray(leaf) for key, leaf in tree.items()}, str(out / f"{name}.safetensors"))
    answered(out / f"{name}_answers.npz", observations, actions, log_std=np.log(np.asarray(std)))


def main(out: Path) -> None:
    """Write all."""
    out.mkdir(parents=True, exist_ok=True)
    small = {"policy_hidden_layer_sizes": (8, 6)}
    brax("brax_ppo", lambda *a, **k: ppo.make_ppo_networks(*a, **k, **small), ppo.make_inference_fn, out)
    brax(
        "brax_sac",
        lambda *a, **k: sac.make_sac_networks(*a, **k, hidden_layer_sizes=(8, 6)),
        sac.make_inference_fn,
        out,
    )
    params = shaken(Choice().init(jax.random.PRNGKey(4), jnp.zeros((1, 4))))
    observations = observed(4)
    logits = Choice().apply(params, jnp.asarray(observations, jnp.float32))
    (out / "choice.msgpack").write_bytes(serialization.to_bytes(params))
    answered(out / "choice_answers.npz", observations, logits.argmax(-1))
    params = shaken(ActorCritic().init(jax.random.PRNGKey(2), jnp.zeros((1, OBSERVED))))
    observations = observed(OBSERVED)
    mean, _ = ActorCritic().apply(params, jnp.asarray(observations, jnp.float32))
    save_file(traverse_util.flatten_dict(params, sep="."), str(out / "actor_critic.safetensors"))
    answered(out / "actor_critic_answers.npz", observations, mean)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
