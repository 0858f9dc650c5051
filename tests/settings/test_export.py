"""What the help of `export` says of formats is what the formats are."""

import inspect
import re

import pytest

from kd_agent import plugins
from kd_agent.deployment.export import _OPTIONS
from kd_agent.settings import ExportConfig
from kd_agent.settings.flags import _description


def test_every_format_is_listed() -> None:
    listed = re.match(r"the format: (.*?) \(default", _description(ExportConfig, "to"))
    assert listed is not None
    assert re.split(r", | or ", listed.group(1)) == plugins.names("export")


@pytest.mark.parametrize("name", _OPTIONS)
def test_a_setting_of_some_formats_names_them(name: str) -> None:
    formats, colon, _ = _description(ExportConfig, name).partition(":")
    assert colon
    takes = [
        to for to in plugins.names("export") if name in inspect.signature(plugins.load("export", to).write).parameters
    ]
    assert formats.split(", ") == takes
