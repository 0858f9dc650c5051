"""Batches for students, and what a student answers to them by torch and by NumPy."""

from typing import Any

import numpy as np
import torch

from kd_agent.policies.graph import ObservationSpec


def batch_for(observations: dict[str, ObservationSpec], size: int = 9) -> dict[str, np.ndarray]:
    """Random observations `[size, *O]` by key."""
    rng = np.random.default_rng(0)
    batch = {}
    for key, spec in observations.items():
        if spec.dtype == "uint8":
            batch[key] = rng.integers(0, 255, (size, *spec.shape)).astype(spec.dtype)
        else:
            batch[key] = 3 * rng.normal(size=(size, *spec.shape)).astype(spec.dtype)
    return batch


def both(student: Any, batch: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Head parameters `[B, P]` of a first step, by torch and by the program in NumPy."""
    with torch.no_grad():
        torchs = student({key: torch.from_numpy(x) for key, x in batch.items()}).params.numpy()
    return torchs, student.policy().step_batch(batch, None, np.ones(len(torchs), bool))[0]
