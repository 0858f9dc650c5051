"""Tree student: rules that a person can read, in the environment's own units.

Letters: `S` states, `F` features, `N` splits, `A` acting columns of the row.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from kd_agent.errors import KDError
from kd_agent.networks import ActionHead, Observations, PolicyOutput, Student
from kd_agent.policies import MAX_LEAVES, PARAMS, Array, Normalizer, ObservationSpec, Op, compile_ops
from kd_agent.policies.torch_policy import TorchPolicy

_FEATURES = "features"


class Tree(Student):
    """A binary decision tree over all observation keys, side by side; categories are one-hot.

    A new one is a full tree that splits at random, as a new network's weights are random. Where a tree
    splits does not depend on its features' scale, so they are not normalised.

    Args:
        observations: What it sees.
        head: Its action head.
        normalizers: Not needed.
        leaves: Leaves that it may have.
        seed: Seed of the initial tree.

    Raises:
        KDError: There are more leaves than a file may hold, or fewer than two.
    """

    learner = "tree"

    def __init__(
        self,
        observations: Mapping[str, ObservationSpec],
        head: ActionHead,
        normalizers: Mapping[str, Normalizer],
        *,
        leaves: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 2 <= leaves <= MAX_LEAVES:
            raise KDError(f"a tree has 2 to {MAX_LEAVES} leaves, not {leaves}")
        self.head = head
        self.observations = dict(observations)
        self.leaves = leaves
        rng = np.random.default_rng(seed)
        inputs = sum(spec.features for spec in self.observations.values())
        splits = leaves - 1
        # As in a heap, the children of node k are 2 k + 1 and 2 k + 2; what comes behind the splits are the leaves.
        node = np.arange(splits, dtype=np.int32)
        arrays = {
            "feature": rng.integers(inputs, size=splits, dtype=np.int32),
            "threshold": rng.standard_normal(splits, np.float32),
            "left": 2 * node + 1,
            "right": 2 * node + 2,
            "value": rng.standard_normal((leaves, head.spec.num_acting), np.float32),
            "log_std": np.zeros(head.num_params - head.spec.num_acting, np.float32),
            "splits": np.array(splits),
        }
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(array))

    def become(self, tree: Mapping[str, Array], log_std: Array) -> None:
        """Take over a tree.

        Args:
            tree: `feature`, `threshold`, `left`, `right` `[N]` and `value [N + 1, A]`, as in the operation "tree".
            log_std: Log standard deviations of a Gaussian head (`[0]` for the others).
        """
        # Buffers keep the size of the largest tree, so that a checkpoint of any tree fits into a new student.
        for name, array in {**tree, "log_std": log_std}.items():
            buffer = self.get_buffer(name).zero_()
            buffer[: len(array)] = torch.from_numpy(array)
        self.get_buffer("splits").fill_(len(tree["feature"]))

    def forward(self, observations: Mapping[str, Tensor]) -> PolicyOutput:
        """Output for a batch; a tree has no gradient."""
        return PolicyOutput(TorchPolicy(self.graph())(observations).detach())

    def encoded(self, observations: Observations) -> Array:
        """What it splits by, `[S, F]`, float32."""
        ops = self._encoder()
        registers = compile_ops(ops)(observations)
        features: Array = registers[self._source(ops)]
        return features.astype(np.float32)

    def ops(self) -> list[Op]:
        """Encode each key, join them, then the tree."""
        ops = self._encoder()
        source = self._source(ops)
        splits = int(self.get_buffer("splits"))
        sizes = {"feature": splits, "threshold": splits, "left": splits, "right": splits, "value": splits + 1}
        tensors = {name: self.get_buffer(name).cpu().numpy()[:size].copy() for name, size in sizes.items()}
        log_std = self.get_buffer("log_std").cpu().numpy().copy()
        if not len(log_std):
            return [*ops, Op("tree", (source,), PARAMS, {}, tensors)]
        tree = Op("tree", (source,), "mean", {}, tensors)
        return [*ops, tree, Op("append", ("mean",), PARAMS, {}, {"value": log_std})]

    def _encoder(self) -> list[Op]:
        """What makes one row of all observations; nothing where they are one already."""
        ops: list[Op] = []
        outputs: list[str] = []
        for key, spec in self.observations.items():
            if spec.categories:
                ops.append(Op("one_hot", (key,), f"{key}.hot", {"sizes": list(spec.categories)}))
                outputs.append(ops[-1].output)
            elif len(spec.shape) != 1:
                ops.append(Op("flatten", (key,), f"{key}.flat"))
                outputs.append(ops[-1].output)
            else:
                outputs.append(key)
        if len(outputs) > 1:
            ops.append(Op("concatenate", tuple(outputs), _FEATURES))
        return ops

    def _source(self, encoder: Sequence[Op]) -> str:
        """The register that the tree reads: the encoder's last one, or the only observation itself."""
        return encoder[-1].output if encoder else next(iter(self.observations))


build = Tree
