"""One self-contained page from a run's result."""

import io
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from matplotlib.figure import Figure

from kd_agent.checkpoint import RunFolder

_COLOURS = {"teacher": "#8b949e", "student": "#1f6feb", "control": "#bf8700"}


def write(folder: RunFolder, result: dict[str, Any]) -> None:
    """Write `report.html`; every value is escaped."""
    template = Environment(loader=PackageLoader("kd_agent", "report"), autoescape=True).get_template("page.html.j2")
    folder.write_text("report.html", template.render(result=result, chart=Markup(_chart(result))))  # noqa: S704 - our own SVG


def _chart(result: dict[str, Any]) -> str:
    """Returns of teacher, student and control, episode by episode and as distributions, as SVG."""
    teacher, student = result["teacher"]["returns"], result["student"]["returns"]
    shown = {name: result[name]["returns"] for name in _COLOURS if name in result}
    with matplotlib.rc_context({"svg.hashsalt": "kd_agent", "font.size": 9}):
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        pairs, spread = figure.subplots(1, 2)
        low, high = min(teacher + student), max(teacher + student)
        pairs.plot([low, high], [low, high], color="#999999", linewidth=1)
        pairs.scatter(teacher, student, s=12, color="#1f6feb", alpha=0.6)
        pairs.set(xlabel="teacher's return", ylabel="student's return", title="the same seeds")
        spread.hist(list(shown.values()), bins=20, label=list(shown), color=[_COLOURS[name] for name in shown])
        spread.set(xlabel="return", ylabel="episodes", title="all episodes")
        spread.legend(frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
