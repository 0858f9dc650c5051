"""One self-contained page from `explanation.json`."""

import math
from typing import Any

from jinja2 import Environment, PackageLoader

from kd_agent.runs import RunFolder

_BARS = 30
"""Features in the chart; the JSON file has all."""


def write(folder: RunFolder, result: dict[str, Any]) -> None:
    """Write `explanation.html`; every value is escaped."""
    environment = Environment(loader=PackageLoader("kd_agent", "report"), autoescape=True)
    features = result["saliency"]["features"]
    numbers = sorted((f for f in features if f["cell"] is None), key=lambda f: -_kl(f, "teacher", "student"))
    longest = max((who["kl_ci"][1] for f in numbers for who in _both(f)), default=0) or 1
    found = {
        "result": result,
        "bars": numbers[:_BARS],
        "left_out": max(0, len(numbers) - _BARS),
        "longest": longest,
        "ticks": _ticks(longest),
        "images": [_image(key, features) for key in dict.fromkeys(f["key"] for f in features if f["cell"])],
    }
    folder.write_text("explanation.html", environment.get_template("explanation.html.j2").render(found))


def _ticks(longest: float) -> list[float]:
    """Round numbers from 0 to `longest`, six at most."""
    power = 10.0 ** math.floor(math.log10(longest / 5))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if longest / step <= 5)
    return [index * step for index in range(int(longest / step) + 1)]


def _image(key: str, features: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of shares of the greatest KL, for each policy that sees an image."""
    patches = [f for f in features if f["key"] == key]
    rows, columns = (1 + max(f["cell"][axis] for f in patches) for axis in (0, 1))
    maps = {}
    for who in ("teacher", "student"):
        seen = [f[who]["kl"] for f in patches if f[who]]
        if seen:
            most = max(seen) or 1
            maps[who] = {"most": max(seen), "cells": [(*f["cell"], f[who]["kl"], f[who]["kl"] / most) for f in patches]}
    return {"key": key, "rows": rows, "columns": columns, "maps": maps}


def _both(feature: dict[str, Any]) -> list[dict[str, Any]]:
    return [feature[who] for who in ("teacher", "student") if feature[who]]


def _kl(feature: dict[str, Any], *preferred: str) -> float:
    """The saliency for the first of the policies that sees a feature."""
    return next(float(feature[who]["kl"]) for who in preferred if feature[who])
