"""docs/architecture.md: every room is drawn, arrows lead downwards in CONTRIBUTING's table, and each stop exists."""

import ast
import re

import pytest
from samples import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
ARROWS = re.findall(r"^ +(\w+) --> (\w+)$", PAGE, re.MULTILINE)
STOPS = re.findall(r"^\| `(kd_agent/\S+\.py)` \| `([\w.]+)` \| (.+) \|$", PAGE, re.MULTILINE)
MENTIONED = sorted(set(re.findall(r"`((?:kd_agent|tests|configs|examples)/[\w./-]+\.\w+)`", PAGE)))


def rooms() -> list[str]:
    """The rooms in the order of CONTRIBUTING's table."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Rooms")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)`", section, re.MULTILINE)


def test_every_room_is_drawn_and_arrows_lead_downwards() -> None:
    order = rooms()
    assert {room for arrow in ARROWS for room in arrow} == set(order)
    assert len(set(ARROWS)) == len(ARROWS)
    for above, below in ARROWS:
        assert order.index(above) < order.index(below), f"{above} --> {below}"


def test_no_arrow_says_what_others_say_together() -> None:
    def reached(start: str, without: tuple[str, str]) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            here = waiting.pop()
            following = {below for above, below in ARROWS if above == here and (above, below) != without}
            waiting += following - found
            found |= following
        return found

    for above, below in ARROWS:
        assert below not in reached(above, (above, below)), f"{above} --> {below}"


@pytest.mark.parametrize(("file", "name"), [(file, name) for file, name, _ in STOPS], ids=lambda part: part)
def test_each_stop_is_where_the_page_says(file: str, name: str) -> None:
    scope: ast.AST = ast.parse((ROOT / file).read_text())
    for part in name.split("."):
        definitions = (ast.FunctionDef, ast.ClassDef)
        inside = [node for node in ast.iter_child_nodes(scope) if isinstance(node, definitions) and node.name == part]
        assert inside, f"{file} has no {name}"
        scope = inside[0]


def test_the_page_has_both_walks_and_every_file_that_it_mentions_exists() -> None:
    assert len(STOPS) == PAGE.count("\n| `kd_agent/") >= 20
    assert [path for path in MENTIONED if not (ROOT / path).is_file()] == []
