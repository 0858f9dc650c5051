"""Files of other libraries' endings that would import the module `canary`, were anything in them called."""

import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from saved_policies import BY_FILE, Saved

from kd_agent import KDError, load_teacher

ENDINGS = (".pt", ".pth", ".cleanrl_model", ".msgpack", ".pkl")
"""Endings of other libraries' files."""


class Payload:
    """Imports the canary when it is unpickled."""

    def __reduce__(self) -> Any:
        return __import__, ("canary",)


class Marking:
    """Leaves a mark when it is unpickled.

    Args:
        mark: The file that is there then.
    """

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def outcome(file: Path, saved: Saved) -> str:
    """Whether a file loads as the teacher that it was, or is refused in one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load_teacher(str(file), env=saved.env, **saved.said)
    except KDError as error:
        return "refused" if "\n" not in str(error) else "refused in several lines"
    return "loaded"


def checkpoints() -> dict[str, bytes]:
    """Files of other libraries' endings in which the canary stands: alone, beside what they hold, and as code."""
    payload = pickle.dumps(Payload(), 2)
    files: dict[str, bytes] = {}
    for suffix in ENDINGS:
        files[f"bare{suffix}"] = payload
    # What Brax writes names its module near the beginning.
    files["brax.pkl"] = payload[:-1] + b"cbrax.training.acme.running_statistics\nRunningStatisticsState\n0."
    for saved in ("rsl_rl/model_mlp.pt", "skrl/agent_dqn.pt", "rl_games/cartpole.pth", "imitation/bc_saved.pt"):
        path = BY_FILE[saved].path
        files[f"forged_{path.name}"] = forged(path, lambda name, raw: payload[:-1] + b"0" + raw[2:] if name else raw)
    script = BY_FILE["torchscript/choice.pt"].path
    call = b"    __import__('canary')\n    import canary\n    return x\n"

    def coded(is_program: bool, raw: bytes) -> bytes:
        return raw if is_program or b"class Choice(" not in raw else raw.split(b"    three =")[0] + call

    files["code.pt"] = forged(script, coded)
    return files


def forged(path: Path, change: Callable[[bool, bytes], bytes]) -> bytes:
    """A torch file with other content, of which `change` is told whether it is the pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename.endswith("/data.pkl"), old.read(info)))
    return out.getvalue()
