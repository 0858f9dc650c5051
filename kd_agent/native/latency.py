"""How long one action takes in C: the generated code in a loop, without any call from Python.

Letters: `S` observations, `F` numbers in one of them.
"""

import ctypes
from collections.abc import Callable

import numpy as np

from kd_agent import plugins
from kd_agent.native import compiler
from kd_agent.policies import Array, PolicyGraph

SAMPLES = 1000
"""Passes over the observations, each timed by itself."""
_LOOP = """
#include <time.h>
#include "policy.c"
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}
static float kd_one(const float *obs) {
#ifdef KD_STATE_SIZE
    float state[KD_STATE_SIZE] = {0};
#define STATE , state
#else
#define STATE
#endif
#ifdef KD_NUM_ACTIONS
    return (float)kd_act(obs STATE);
#else
    float action[KD_ACTION_SIZE];
    kd_act(obs STATE, action);
    return action[0];
#endif
}
static volatile float kd_sink;
__attribute__((visibility("default")))
void kd_time(const float *obs, long rows, double *nanoseconds, long samples) {
    float sum = 0.0f;
    for (long s = 0; s < samples; s++) {
        const double start = now();
        for (long row = 0; row < rows; row++) sum += kd_one(obs + row * KD_OBS_SIZE);
        nanoseconds[s] = (now() - start) / (double)rows;
    }
    kd_sink = sum;
}
"""


def c_loop(graph: PolicyGraph, observations: Array, *, int8: bool = False) -> Callable[[], Array]:
    """A function that measures, in nanoseconds an action, `[SAMPLES]` passes over observations.

    Args:
        graph: The policy.
        observations: float32 `[S, F]`, the arrays of all keys side by side.
        int8: Whether linear layers compute in int8.

    Raises:
        KDError: There is no compiler, or C cannot express the policy.
    """
    header, source = plugins.load("export", "c").generate(graph, "policy.h", int8=int8)
    path = compiler.library({"policy.h": header, "policy.c": source, "loop.c": _LOOP}, "loop.c")
    function = ctypes.CDLL(str(path)).kd_time
    function.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_void_p, ctypes.c_long]
    function.restype = None
    # Bound here, so that the memory behind its address lives as long as the function does.
    rows = np.ascontiguousarray(observations, np.float32)

    def _run() -> Array:
        taken = np.empty(SAMPLES)
        function(rows.ctypes.data, len(rows), taken.ctypes.data, SAMPLES)
        return taken

    return _run
