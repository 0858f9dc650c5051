"""One self-contained page from a run's result."""

import io
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kd_agent.runs import RunFolder

# The salt makes the identifiers within the drawing the same in every run; matplotlib draws them by chance otherwise.
_STYLE: Any = {"svg.hashsalt": "kd_agent", "font.size": 9}
_COLOURS = {"teacher": "#8b949e", "student": "#1f6feb", "control": "#bf8700"}
_OTHERS = "#59636e"
"""Colour of the sizes that were not chosen."""
_DEPTH = 6
"""Margins below the teacher that the drawing of a search shows."""


def write(folder: RunFolder, result: dict[str, Any]) -> None:
    """Write `report.html`; every value is escaped.

    Args:
        folder: Where to.
        result: What `result.json` holds.
    """
    environment = Environment(loader=PackageLoader("kd_agent", "report"), autoescape=True)
    if result.get("play", "") is None:
        # Nobody has played the student: there are no returns to show.
        folder.write_text("report.html", environment.get_template("unplayed.html.j2").render(result=result))
        return
    charts = {"chart": _chart(result)}
    if "search" in result:
        charts["front"] = _front(result)
    page = environment.get_template("page.html.j2").render(result=result, **charts)
    folder.write_text("report.html", page)


def _chart(result: dict[str, Any]) -> Markup:
    """Returns of teacher, student and control, episode by episode and as distributions, as SVG."""
    shown = {name: result[name]["returns"] for name in _COLOURS if name in result}
    colours = [_COLOURS[name] for name in shown]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        if "recorded" in result["teacher"]:
            # The recorded episodes are paired with none of the student's.
            spread = figure.subplots()
        else:
            pairs, spread = figure.subplots(1, 2)
            _draw_pairs(pairs, result["teacher"]["returns"], result["student"]["returns"])
        spread.hist(list(shown.values()), bins=20, label=list(shown), color=colours)
        spread.set(xlabel="return", ylabel="episodes", title="all episodes")
        spread.legend(frameon=False)
        return _svg(figure)


def _draw_pairs(axes: Axes, teacher: list[float], student: list[float]) -> None:
    """The two returns of each seed; on the line they are equal."""
    ends = [min(teacher + student), max(teacher + student)]
    axes.plot(ends, ends, color="#999999", linewidth=1)
    axes.scatter(teacher, student, s=12, color=_COLOURS["student"], alpha=0.6)
    axes.set(xlabel="teacher's return", ylabel="student's return", title="the same seeds")


def _front(result: dict[str, Any]) -> Markup:
    """Score against size of everything that the search tried, as SVG: filled where the last fits were made."""
    rows = result["search"]["front"]
    teacher = result["teacher"]["mean"]
    margin = result["verdict"]["margin"]
    last = max(row["rung"] for row in rows)
    # A student that learnt nothing would press all others into a line: below this they are arrows with a number.
    floor = teacher - _DEPTH * margin
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.axhspan(teacher - margin, teacher, color="#ddf4e4", label="teacher, less the margin")
        axes.axhline(teacher, color=_COLOURS["teacher"], linewidth=1)
        for place, row in enumerate(rows):
            colour = _OTHERS
            if row["hidden"] == result["search"]["chosen"]:
                colour = _COLOURS["student"]
            fill = "white"
            if row["rung"] == last:
                fill = colour
            _draw_size(axes, place, row, floor, colour=colour, fill=fill)
        axes.set_xticks(range(len(rows)), list(map(_size, rows)))
        axes.set(xlabel="hidden layers, and parameters that act", ylabel="mean return of the validation")
        if margin:
            axes.set_ylim(bottom=floor - margin / 2)
        axes.legend(frameon=False, loc="lower right")
        return _svg(figure)


def _draw_size(axes: Axes, place: int, row: dict[str, Any], floor: float, *, colour: str, fill: str) -> None:
    mean = row["mean"]
    if mean < floor:
        axes.plot(place, floor, "v", color=colour, mfc=fill)
        axes.annotate(f"{mean:.0f}", (place, floor), (0, 8), textcoords="offset points", ha="center")
        return
    low, high = row["mean_ci"]
    axes.errorbar(place, mean, yerr=[[mean - low], [high - mean]], fmt="o", color=colour, capsize=3, mfc=fill)


def _size(row: dict[str, Any]) -> str:
    """A size under its mark: hidden layers, and parameters."""
    hidden = "x".join(map(str, row["hidden"])) or "linear"
    return f"{hidden}\n{row['parameters']:,}"


def _svg(figure: Figure) -> Markup:
    buffer = io.StringIO()
    # Without the date: the same result is the same page.
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    # From the element on: a page has no XML declaration in its middle.
    svg = text[text.index("<svg") :]
    return Markup(svg)  # noqa: S704 - our own drawing, in which matplotlib has escaped all text
