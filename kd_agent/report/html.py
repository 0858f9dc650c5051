"""One self-contained page from a run's result."""

import io
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from matplotlib.figure import Figure

from kd_agent.runs import RunFolder

_STYLE: Any = {"svg.hashsalt": "kd_agent", "font.size": 9}
_COLOURS = {"teacher": "#8b949e", "student": "#1f6feb", "control": "#bf8700"}


def write(folder: RunFolder, result: dict[str, Any]) -> None:
    """Write `report.html`; every value is escaped."""
    template = Environment(loader=PackageLoader("kd_agent", "report"), autoescape=True).get_template("page.html.j2")
    drawn = {"chart": _chart(result)} | ({"front": _front(result)} if "search" in result else {})
    charts = {name: Markup(svg) for name, svg in drawn.items()}  # noqa: S704 - our own SVG
    folder.write_text("report.html", template.render(result=result, **charts))


def _chart(result: dict[str, Any]) -> str:
    """Returns of teacher, student and control, episode by episode and as distributions, as SVG."""
    teacher, student = result["teacher"]["returns"], result["student"]["returns"]
    shown = {name: result[name]["returns"] for name in _COLOURS if name in result}
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        pairs, spread = figure.subplots(1, 2)
        low, high = min(teacher + student), max(teacher + student)
        pairs.plot([low, high], [low, high], color="#999999", linewidth=1)
        pairs.scatter(teacher, student, s=12, color="#1f6feb", alpha=0.6)
        pairs.set(xlabel="teacher's return", ylabel="student's return", title="the same seeds")
        spread.hist(list(shown.values()), bins=20, label=list(shown), color=[_COLOURS[name] for name in shown])
        spread.set(xlabel="return", ylabel="episodes", title="all episodes")
        spread.legend(frameon=False)
        return _svg(figure)


def _front(result: dict[str, Any]) -> str:
    """Score against size of everything that the search tried, as SVG: filled where the last fits were made."""
    rows, chosen, teacher = result["search"]["front"], result["search"]["chosen"], result["teacher"]["iqm"]
    margin, last = result["verdict"]["margin"], max(row["rung"] for row in rows)
    floor = teacher - 6 * margin
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.axhspan(teacher - margin, teacher, color="#ddf4e4", label="teacher, less the margin")
        axes.axhline(teacher, color=_COLOURS["teacher"], linewidth=1)
        for place, row in enumerate(rows):
            colour = _COLOURS["student"] if row["hidden"] == chosen else "#59636e"
            fill = colour if row["rung"] == last else "white"
            if row["iqm"] < floor:
                axes.plot(place, floor, "v", color=colour, mfc=fill)
                axes.annotate(f"{row['iqm']:.0f}", (place, floor), (0, 8), textcoords="offset points", ha="center")
                continue
            spread = [[row["iqm"] - row["iqm_ci"][0]], [row["iqm_ci"][1] - row["iqm"]]]
            axes.errorbar(place, row["iqm"], yerr=spread, fmt="o", color=colour, capsize=3, mfc=fill)
        names = ["x".join(map(str, row["hidden"])) or "linear" for row in rows]
        axes.set_xticks(range(len(rows)), [f"{n}\n{row['parameters']:,}" for n, row in zip(names, rows, strict=True)])
        axes.set(xlabel="hidden layers, and parameters that act", ylabel="IQM of the exam")
        axes.set_ylim(bottom=floor - margin / 2 if margin else None)
        axes.legend(frameon=False, loc="lower right")
        return _svg(figure)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
