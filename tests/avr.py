"""Running generated C on a microcontroller whose int has 16 bits: avr-gcc builds it, simavr plays it.

`by_avr` calls the functions; `by_sketch` runs an Arduino library's own example, whose serial line is a table of
observations on one side and hexadecimal digits on the other.
"""

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from exported import Answers, needs

from kd_agent import export
from kd_agent.policies.graph import PolicyGraph

BOARD = "atmega328p"
"""The chip of an Arduino Uno: 32 KiB of flash, 2 KiB of RAM."""
# The observations stay in flash, the answers go out as hexadecimal digits over the serial line, which simavr prints.
HARNESS = """
#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/pgmspace.h>
#include <avr/sleep.h>
#include "policy.h"
#include "observations.h"
static void put(char letter) {
    while (!(UCSR0A & (1 << UDRE0))) {}
    UDR0 = letter;
}
static void put_numbers(const float *numbers, unsigned count) {
    const uint8_t *bytes = (const uint8_t *)numbers;
    for (unsigned i = 0; i < 4 * count; i++) {
        put("0123456789abcdef"[bytes[i] >> 4]);
        put("0123456789abcdef"[bytes[i] & 15]);
    }
}
int main(void) {
    float obs[KD_OBS_SIZE], params[KD_NUM_PARAMS];
    UCSR0B = 1 << TXEN0;
    for (unsigned row = 0; row < ROWS; row++) {
        for (unsigned i = 0; i < KD_OBS_SIZE; i++) obs[i] = pgm_read_float(&observations[row][i]);
#ifdef KD_NUM_ACTIONS
        float action[1];
        action[0] = (float)kd_act(obs);
#else
        float action[KD_ACTION_SIZE];
        kd_act(obs, action);
#endif
        kd_params(obs, params);
        put_numbers(params, KD_NUM_PARAMS);
        put_numbers(action, sizeof action / sizeof *action);
        put('\\n');
    }
    cli(); /* asleep without interrupts it never wakes, and simavr ends */
    sleep_enable();
    sleep_cpu();
    return 0;
}
"""

# What the sketch's `Serial` reads and says here; the real one's numbers are decimal.
ARDUINO = """
#include <stddef.h>
#include <stdint.h>
struct Line {
    void begin(long) {}
    void setTimeout(long) {}
    int available() { return 1; }
    float parseFloat();
    void print(float number, int);
    void print(char) {}
    void println(int number) { print((float)number, 0); println(); }
    void println();
};
extern Line Serial;
"""
SKETCH = """
#include "Arduino.h"
#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/pgmspace.h>
#include <avr/sleep.h>
#include "policy.ino"
#include "observations.h"
Line Serial;
static unsigned place;
static void put(char letter) {
    while (!(UCSR0A & (1 << UDRE0))) {}
    UDR0 = letter;
}
float Line::parseFloat() { return pgm_read_float(&observations[0][0] + place++); }
void Line::print(float number, int) {
    const uint8_t *bytes = (const uint8_t *)&number;
    for (unsigned i = 0; i < 4; i++) {
        put("0123456789abcdef"[bytes[i] >> 4]);
        put("0123456789abcdef"[bytes[i] & 15]);
    }
}
void Line::println() { put('\\n'); }
int main() {
    UCSR0B = 1 << TXEN0;
    setup();
    while (place < ROWS * KD_OBS_SIZE) loop();
    cli();
    sleep_enable();
    sleep_cpu();
}
"""


def by_avr(
    graph: PolicyGraph,
    observations: dict[str, Any],
    folder: Path,
    standard: str = "c99",
    library: bool = False,
    **options: Any,
) -> Answers:
    """What a policy without a memory answers on the board: C's, or with `library` the Arduino library's."""
    needs("avr-gcc")
    needs("simavr")
    source = "policy.c"
    if library:
        source = "policy.arduino/src/policy.c"
        export(graph, folder / "policy.arduino", **options)
    else:
        export(graph, folder / source, **options)
    (folder / "main.c").write_text(HARNESS)
    (folder / "observations.h").write_text(_table(observations["obs"]))
    flags = [f"-std={standard}", f"-mmcu={BOARD}", "-Os", "-Wall", "-Wextra", "-Werror"]
    command = ["avr-gcc", *flags, f"-I{Path(source).parent}", source, "main.c", "-o", "policy.elf"]
    subprocess.run(command, cwd=folder, check=True)
    params = graph.head.num_params
    numbers = _played(folder, params + _numbers_of_an_action(graph), len(observations["obs"]))
    return Answers(numbers[:, :params], numbers[:, params:])


def by_sketch(graph: PolicyGraph, observations: dict[str, Any], folder: Path, **options: Any) -> Any:
    """The actions `[N, A]` that an Arduino library's example answers on the board."""
    needs("avr-g++")
    needs("simavr")
    export(graph, folder / "policy.arduino", **options)
    library = folder / "policy.arduino"
    (folder / "Arduino.h").write_text(ARDUINO)
    (folder / "main.cpp").write_text(SKETCH)
    (folder / "observations.h").write_text(_table(observations["obs"]))
    # The flags of Arduino's own boards, and no warning.
    flags = [f"-mmcu={BOARD}", "-Os", "-ffunction-sections", "-fdata-sections", "-flto", "-Wall", "-Wextra", "-Werror"]
    places = ["-I.", f"-I{library}/src", f"-I{library}/examples/policy"]
    subprocess.run(
        ["avr-gcc", "-std=gnu11", *flags, "-c", f"{library}/src/policy.c", "-o", "policy.o"], cwd=folder, check=True
    )
    link = ["-std=gnu++11", *flags, *places, "main.cpp", "policy.o", "-Wl,--gc-sections", "-o", "policy.elf"]
    subprocess.run(["avr-g++", *link], cwd=folder, check=True)
    return _played(folder, _numbers_of_an_action(graph), len(observations["obs"]))


def _numbers_of_an_action(graph: PolicyGraph) -> int:
    return 1 if graph.head.kind == "categorical" else len(graph.head.low or graph.head.nvec)


def _played(folder: Path, width: int, rows: int) -> Any:
    """The float32 `[rows, width]` that `policy.elf` says on the board."""
    command = ["simavr", "-m", BOARD, "-f", "16000000", "policy.elf"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    said = done.stdout + done.stderr
    # Around each line simavr writes colours, which end in the letter m, and a full stop.
    lines = re.findall(rf"m([0-9a-f]{{{8 * width}}})\.", said)
    assert len(lines) == rows, said[-500:]
    return np.frombuffer(bytes.fromhex("".join(lines)), "<f4").reshape(-1, width)


def _table(rows: Any) -> str:
    """A header with observations `[N, F]`."""
    numbers = [", ".join(f"{number:.9e}f" for number in row) for row in rows.tolist()]
    inner = "},\n    {".join(numbers)
    inner = inner.replace("inff", "INFINITY").replace("nanf", "NAN")
    table = (
        f"#include <math.h>\nstatic const float observations[ROWS][KD_OBS_SIZE] PROGMEM = {{\n    {{{inner}}}\n}};\n"
    )
    return f"#define ROWS {len(rows)}\n{table}"
