"""One self-contained page from `explanation.json`."""

import math
from typing import Any

from jinja2 import Environment, PackageLoader

from kd_agent.runs import RunFolder

_BARS = 30
"""Features in the chart; the JSON file has all."""
_TICKS = 5
"""Intervals of the chart's axis, at most."""


def write(folder: RunFolder, result: dict[str, Any]) -> None:
    """Write `explanation.html`; every value is escaped.

    Args:
        folder: Where to.
        result: What `explanation.json` holds.
    """
    environment = Environment(loader=PackageLoader("kd_agent", "report"), autoescape=True)
    features = result["saliency"]["features"]
    numbers = [feature for feature in features if feature["cell"] is None]
    # The teacher's order, in which it is seen at a glance what the student makes of it.
    numbers.sort(key=_first_kl, reverse=True)
    longest = _longest_whisker(numbers)
    page = environment.get_template("explanation.html.j2").render(
        result=result,
        bars=numbers[:_BARS],
        left_out=max(0, len(numbers) - _BARS),
        longest=longest,
        ticks=_ticks(longest),
        images=_images(features),
    )
    folder.write_text("explanation.html", page)


def _policies(feature: dict[str, Any]) -> list[dict[str, Any]]:
    """The saliency of a feature for each policy that sees it, the teacher's first."""
    return [feature[who] for who in ("teacher", "student") if feature[who]]


def _first_kl(feature: dict[str, Any]) -> float:
    return float(_policies(feature)[0]["kl"])


def _longest_whisker(features: list[dict[str, Any]]) -> float:
    """The end of the chart's axis, in nats."""
    longest = 0.0
    for feature in features:
        for saliency in _policies(feature):
            longest = max(longest, saliency["kl_ci"][1])
    return longest or 1.0  # an axis needs a length, also where nothing matters to anybody


def _ticks(longest: float) -> list[float]:
    """Round numbers from 0 to `longest`, six at most."""
    step = power = 10.0 ** math.floor(math.log10(longest / _TICKS))
    # 1, 2, 5, 10 times a power of ten: what people count in.
    for factor in (2, 5, 10):
        if longest / step > _TICKS:
            step = factor * power
    return [index * step for index in range(int(longest / step) + 1)]


def _images(features: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the page shows of each observation that is an image, in the order of the features."""
    patches: dict[str, list[dict[str, Any]]] = {}
    for feature in features:
        if feature["cell"]:
            patches.setdefault(feature["key"], []).append(feature)
    return [_image(key, cells) for key, cells in patches.items()]


def _image(key: str, patches: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of shares of the greatest KL, for each policy that sees an image."""
    rows = 1 + max(feature["cell"][0] for feature in patches)
    columns = 1 + max(feature["cell"][1] for feature in patches)
    maps: dict[str, Any] = {}
    for who in ("teacher", "student"):
        visible = [feature for feature in patches if feature[who]]
        if visible:
            maps[who] = _map(who, visible)
    return {"key": key, "rows": rows, "columns": columns, "maps": maps}


def _map(who: str, patches: list[dict[str, Any]]) -> dict[str, Any]:
    """Row, column, KL in nats and share of the greatest, for each patch."""
    most = max(feature[who]["kl"] for feature in patches)
    cells: list[tuple[int, int, float, float]] = []
    for feature in patches:
        row, column = feature["cell"]
        kl = feature[who]["kl"]
        share = kl / (most or 1)  # of nothing, nothing
        cells.append((row, column, kl, share))
    return {"most": most, "cells": cells}
