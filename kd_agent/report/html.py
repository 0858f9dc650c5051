"""One self-contained page from a run's result."""

import io
from typing import Any

import matplotlib
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from matplotlib.figure import Figure

from kd_agent.checkpoint import RunFolder


def write(folder: RunFolder, result: dict[str, Any]) -> None:
    """Write `report.html`; every value is escaped."""
    template = Environment(loader=PackageLoader("kd_agent", "report"), autoescape=True).get_template("page.html.j2")
    folder.write_text("report.html", template.render(result=result, chart=Markup(_chart(result))))  # noqa: S704 - our own SVG


def _chart(result: dict[str, Any]) -> str:
    """Returns of teacher and student, episode by episode and as distributions, as SVG."""
    teacher, student = result["teacher"]["returns"], result["student"]["returns"]
    with matplotlib.rc_context({"svg.hashsalt": "kd_agent", "font.size": 9}):
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        pairs, spread = figure.subplots(1, 2)
        low, high = min(teacher + student), max(teacher + student)
        pairs.plot([low, high], [low, high], color="#999999", linewidth=1)
        pairs.scatter(teacher, student, s=12, color="#1f6feb", alpha=0.6)
        pairs.set(xlabel="teacher's return", ylabel="student's return", title="the same seeds")
        spread.hist([teacher, student], bins=20, label=["teacher", "student"], color=["#8b949e", "#1f6feb"])
        spread.set(xlabel="return", ylabel="episodes", title="all episodes")
        spread.legend(frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
