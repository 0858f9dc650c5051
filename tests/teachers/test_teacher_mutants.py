"""Damaged zips of every algorithm load or are refused with a KDError; nothing else happens."""

import contextlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_agents import trained

from kd_agent.errors import KDError
from kd_agent.teachers import load_teacher

JUNK: list[Any] = [
    None,
    -1,
    10**12,
    1e308,
    True,
    "x",
    "nan",
    "[1. inf",
    [],
    {},
    "Box(0, 255, (3, 36, 99999999), uint8)",
]
FIELDS = ("observation_space", "action_space", "policy_class", "policy_kwargs", "use_sde", "policy_delay")


def change_text(raw: bytes, rng: np.random.Generator) -> bytes:
    """Junk in the readable part of a zip."""
    with zipfile.ZipFile(io.BytesIO(raw)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    data = json.loads(members["data"])
    for name in rng.choice([field for field in FIELDS if field in data], 2):
        record, junk = data[name], JUNK[rng.integers(len(JUNK))]
        if isinstance(record, dict) and record and rng.random() < 0.8:
            record[list(record)[rng.integers(len(record))]] = junk
        else:
            data[name] = junk
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as new:
        for name, content in {**members, "data": json.dumps(data).encode()}.items():
            new.writestr(name, content)
    return out.getvalue()


def change_bytes(raw: bytes, rng: np.random.Generator) -> bytes:
    """A few other bytes."""
    mutant = bytearray(raw)
    for place in rng.integers(len(mutant), size=3):
        mutant[place] = rng.integers(256)
    return bytes(mutant)


@pytest.mark.parametrize("change", [change_text, change_bytes])
@pytest.mark.parametrize("case", ["ppo dict", "dqn", "qr-dqn", "sac gsde", "td3", "crossq", "ars mlp", "recurrent ppo"])
def test_a_mutant_loads_or_is_refused(tmp_path: Path, case: str, change: Any) -> None:
    _, env, path = trained(case)
    raw, rng, file = path.read_bytes(), np.random.default_rng(0), tmp_path / "mutant.zip"
    for number in range(40):
        file.write_bytes(change(raw, rng))
        with contextlib.suppress(KDError):
            load_teacher(str(file), env=(env.observation_space, env.action_space) if number % 2 else None)
