"""Whole episodes, each action chosen by an exported file in a runtime of its own, or by NumPy."""

import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import onnxruntime
import played
import torch

from kd_agent import export
from kd_agent.policies.graph import PolicyGraph
from kd_agent.policies.policy import Policy

# Programs that are asked as those of `played` are: `begin`, or `act` and an observation.
C = """
#include <stdio.h>
#include <string.h>
#include "policy.h"
static char line[16 + 8 * KD_OBS_SIZE];
static void print(const float *numbers, int count) {
    unsigned char raw[4];
    for (int i = 0; i < count; i++) {
        memcpy(raw, numbers + i, 4);
        for (int k = 0; k < 4; k++) printf("%02x", raw[k]);
    }
}
int main(void) {
    float obs[KD_OBS_SIZE];
    unsigned byte;
#ifdef KD_STATE_SIZE
    static float state[KD_STATE_SIZE];
#define STATE , state
#else
#define STATE
#endif
    while (fgets(line, sizeof line, stdin)) {
        if (line[0] == 'b') {
#ifdef KD_STATE_SIZE
            memset(state, 0, sizeof state);
#endif
        } else {
            for (int i = 0; i < 4 * KD_OBS_SIZE; i++) {
                sscanf(line + 4 + 2 * i, "%2x", &byte);
                ((unsigned char *)obs)[i] = (unsigned char)byte;
            }
#ifdef KD_NUM_ACTIONS
            float action = (float)kd_act(obs STATE);
            print(&action, 1);
#else
            float action[KD_ACTION_SIZE];
            kd_act(obs STATE, action);
            print(action, KD_ACTION_SIZE);
#endif
        }
        puts("");
        fflush(stdout);
    }
    return 0;
}
"""
MODULE = """
import * as policy from "./policy.mjs";
let state;
const begin = () => { state = policy.newState?.(); };
const act = (obs) => [policy.act(obs, state)].flat();
"""
WASM = """
import fs from "node:fs";
const policy = new WebAssembly.Instance(new WebAssembly.Module(fs.readFileSync("policy.wasm"))).exports;
const floats = (at, size) => new Float32Array(policy.memory.buffer, at, size);
const begin = () => { if (policy.state) floats(policy.state(), policy.state_size()).fill(0); };
const act = (obs) => {
    floats(policy.obs(), obs.length).set(obs);
    const answer = policy.act();
    return policy.action_size() ? [...floats(answer, policy.action_size())] : [answer];
};
"""
NODE = """
import readline from "node:readline";
for await (const line of readline.createInterface({ input: process.stdin })) {
    const [word, hex] = line.split(" ");
    if (word === "begin") {
        begin();
        console.log("");
        continue;
    }
    const obs = new Float32Array(new Uint8Array(Buffer.from(hex, "hex")).buffer);
    console.log(Buffer.from(Float32Array.from(act(obs)).buffer).toString("hex"));
}
"""


class Player(Protocol):
    def begin(self) -> None:
        """Begin an episode."""

    def act(self, observation: Any) -> Any:
        """The action of an observation, in the environment's shape and type."""


class InNumPy:
    def __init__(self, graph: PolicyGraph) -> None:
        self._policy = Policy(graph)

    def begin(self) -> None:
        self._state: Any = None

    def act(self, observation: Any) -> Any:
        action, self._state = self._policy.predict(observation, self._state, deterministic=True)
        return action


class InProcess:
    """A program that is asked line by line."""

    def __init__(self, graph: PolicyGraph, process: played.Process) -> None:
        self._head = graph.head
        self._process = process

    def begin(self) -> None:
        self._process.ask("begin")

    def act(self, observation: Any) -> Any:
        numbers = self._process.ask(played.asked("act", observation))
        if self._head.kind == "categorical":
            return int(numbers[0])
        return numbers.astype(self._head.dtype).reshape(self._head.shape)


class InBatches:
    """A program without a memory that takes and gives arrays, here a batch of one."""

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self._answer = answer

    def begin(self) -> None:
        """Nothing is remembered."""

    def act(self, observation: Any) -> Any:
        return self._answer(np.asarray(observation, np.float32)[None])[0]


def in_c(graph: PolicyGraph, folder: Path) -> list[str]:
    played.needs("gcc")
    export(graph, folder / "policy.c")
    (folder / "main.c").write_text(C)
    subprocess.run(["gcc", "-std=c99", "-O2", "policy.c", "main.c", "-o", "policy"], cwd=folder, check=True)
    return [str(folder / "policy")]


def in_javascript(graph: PolicyGraph, folder: Path) -> list[str]:
    played.needs("node")
    export(graph, folder / "policy.mjs")
    (folder / "main.mjs").write_text(MODULE + NODE)
    return ["node", str(folder / "main.mjs")]


def in_wasm(graph: PolicyGraph, folder: Path) -> list[str]:
    for tool in ("clang", "wasm-ld", "node"):
        played.needs(tool)
    module, _ = export(graph, folder / "policy.wasm")
    (folder / "main.mjs").write_text((WASM + NODE).replace('"policy.wasm"', repr(str(module))))
    return ["node", str(folder / "main.mjs")]


PROGRAMS = {**played.RUNTIMES, "c": in_c, "javascript": in_javascript, "wasm": in_wasm}
"""By runtime: what exports a policy and says the command that plays it."""
RUNTIMES = (*PROGRAMS, "onnx", "torch")


@contextmanager
def player(runtime: str, graph: PolicyGraph, folder: Path) -> Iterator[Player]:
    """Who plays an exported policy in a runtime."""
    if runtime == "onnx":
        session = onnxruntime.InferenceSession(str(export(graph, folder / "policy.onnx")[0]))
        yield InBatches(lambda observations: session.run(["action"], {"obs": observations})[0])
    elif runtime == "torch":
        program = torch.export.load(export(graph, folder / "policy.pt2")[0]).module()
        with torch.no_grad():
            yield InBatches(lambda observations: program(torch.from_numpy(observations))[1].numpy())
    else:
        with played.Process(PROGRAMS[runtime](graph, folder)) as process:
            yield InProcess(graph, process)


def outcomes(env: gym.Env[Any, Any], who: Player, seeds: Iterable[int], limit: int = 200) -> Any:
    """Return and length of an episode a seed, `[seeds, 2]`, and how many actions there were.

    Args:
        env: The environment.
        who: Who plays.
        seeds: Of the episodes.
        limit: Steps after which one is cut.
    """
    found = []
    chosen = set()
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        who.begin()
        total, steps, done = 0.0, 0, False
        while not done and steps < limit:
            action = who.act(observation)
            observation, reward, terminated, truncated, _ = env.step(action)
            chosen.add(str(action))
            total += float(reward)
            steps += 1
            done = terminated or truncated
        found.append((total, steps))
    return np.array(found), len(chosen)
