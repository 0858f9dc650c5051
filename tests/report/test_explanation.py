"""The page of an explanation: what it shows of each policy, its axis, its images, and that everything is escaped."""

import re
from pathlib import Path
from typing import Any

import pytest

from kd_agent.report import explanation
from kd_agent.runs import RunFolder

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def saliency(kl: float, most: float = 2.0) -> dict[str, Any]:
    return {"kl": kl, "kl_ci": [kl / 2, most], "changed": 0.25}


def feature(name: str, *, teacher: float | None = None, student: float | None = None, **more: Any) -> dict[str, Any]:
    """A feature, with its KL in nats for each policy that sees it."""
    found = {"name": name, "key": "obs", "cell": None, **more}
    for who, kl in (("teacher", teacher), ("student", student)):
        found[who] = None if kl is None else saliency(kl)
    return found


def patch(row: int, column: int, **kl: float) -> dict[str, Any]:
    return feature(f"screen {row} {column}", key="screen", cell=[row, column], **kl)


def decision(action: int, *distribution: float) -> dict[str, Any]:
    return {"action": action, "distribution": list(distribution)}


def explained(*features: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What `explanation.json` says, as far as the page reads it."""
    disagreement = {
        "seed": 11,
        "step": 22,
        "kl": 0.5,
        "gap": 0.01,
        "differs": True,
        "feature": "pole angle",
        "value": 0.2,
        "kl_without": 0.1,
        "observation": {"pole angle": 0.2},
        "teacher": decision(1, 0.49, 0.51),
        "student": decision(0, 0.7, 0.3),
    }
    return {
        "env": "CartPole-v1",
        "seed": 0,
        "head": "categorical",
        "teacher": {"algo": "ppo", "parameters": 9155, "source": "t.zip", "sha256": "ab", "memory": False},
        "student": {"parameters": 58, "file": "s.safetensors", "sha256": "cd", "memory": False},
        "states": 1600,
        "episodes": 8,
        "agreement": 0.9,
        "kl": 0.01,
        "kl_uniform": 0.7,
        "near_ties": None,
        "actions": ["left", "right"],
        "disagreements": [disagreement],
        "saliency": {"features": list(features), "rank_correlation": None, "repeats": 5, "states": 320},
        "rules": None,
        **more,
    }


def page_of(result: dict[str, Any], folder: Path) -> str:
    explanation.write(RunFolder(folder), result)
    return (folder / "explanation.html").read_text()


def bars(page: str) -> list[str]:
    """Names beside the bars, from the top."""
    return re.findall(r'<text text-anchor="end" x="210" y="\d+">(.*?)</text>', page)


def test_the_features_are_in_the_order_of_the_teacher(tmp_path: Path) -> None:
    features = (feature("a", teacher=0.1, student=3.0), feature("b", teacher=0.3), feature("c", student=0.2))
    assert bars(page_of(explained(*features), tmp_path)) == ["b", "c", "a"]


def test_equal_features_stay_in_their_own_order(tmp_path: Path) -> None:
    features = [feature(name, teacher=0.5) for name in "zyx"]
    assert bars(page_of(explained(*features), tmp_path)) == ["z", "y", "x"]


def test_thirty_features_are_drawn_and_the_others_counted(tmp_path: Path) -> None:
    features = [feature(f"f{index}", teacher=1 + index) for index in range(33)]
    page = page_of(explained(*features), tmp_path)
    assert bars(page) == [f"f{index}" for index in range(32, 2, -1)]
    assert "3 more in explanation.json" in page
    assert "more in explanation.json" not in page_of(explained(*features[:30]), tmp_path)


def test_who_does_not_see_a_feature_has_no_bar(tmp_path: Path) -> None:
    page = page_of(explained(feature("a", teacher=0.1), feature("b", student=0.3)), tmp_path)
    assert "the student does not see it" in page
    assert "the teacher does not see it" in page
    assert page.count('<rect class="t" rx') == page.count('<rect class="s" rx') == 1


def test_the_longest_whisker_fills_the_axis(tmp_path: Path) -> None:
    long, short = feature("a", teacher=1.0), feature("b", student=0.5)
    long["teacher"]["kl_ci"] = [0.5, 4.0]
    page = page_of(explained(long, short), tmp_path)
    assert "H860.00M" in page  # 220 to the left of 640
    assert f'width="{640 / 4:.2f}"' in page


@pytest.mark.parametrize(
    ("longest", "ticks"),
    [
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.26, [0, 0.1, 0.2]),
        (0.5, [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        (2.6, [0, 1, 2]),
        (49.0, [0, 10, 20, 30, 40]),
        (99.0, [0, 20, 40, 60, 80]),
        (1e-3, [0, 2e-4, 4e-4, 6e-4, 8e-4, 1e-3]),
    ],
)
def test_ticks_are_round(longest: float, ticks: list[float]) -> None:
    assert explanation._ticks(longest) == pytest.approx(ticks)


@pytest.mark.parametrize("exponent", range(-8, 8))
def test_ticks_are_few_and_within_the_axis(exponent: int) -> None:
    for leading in range(10, 100, 7):
        longest = leading * 10.0**exponent
        ticks = explanation._ticks(longest)
        assert 2 <= len(ticks) <= 6
        assert ticks[-1] <= longest * (1 + 1e-9)


def test_where_nothing_matters_there_is_still_an_axis(tmp_path: Path) -> None:
    nothing = feature("a", teacher=0.0, student=0.0)
    nothing["teacher"] = nothing["student"] = saliency(0.0, most=0.0)
    assert bars(page_of(explained(nothing), tmp_path)) == ["a"]


def test_an_image_is_a_map_for_each_policy_that_sees_it(tmp_path: Path) -> None:
    patches = [patch(row, column, teacher=row + column / 2) for row in range(3) for column in range(2)]
    page = page_of(explained(*patches), tmp_path)
    assert "Where they look: screen" in page
    assert 'viewBox="0 0 96 144"' in page
    assert "teacher, at most 2.5 nats" in page
    assert "student, at most" not in page
    assert page.count('fill-opacity="1.000"') == 1
    assert bars(page) == []


def test_an_image_that_matters_to_nobody_is_blank(tmp_path: Path) -> None:
    page = page_of(explained(patch(0, 0, student=0.0), patch(0, 1, student=0.0)), tmp_path)
    assert page.count('fill-opacity="0.000"') == 2


def test_images_come_in_the_order_of_the_features(tmp_path: Path) -> None:
    patches = [feature(key, key=key, cell=[0, 0], teacher=1.0) for key in ("wrist", "ahead", "wrist")]
    page = page_of(explained(*patches), tmp_path)
    assert re.findall(r"Where they look: (\w+)", page) == ["wrist", "ahead"]


def test_disagreements_name_the_actions_of_both(tmp_path: Path) -> None:
    page = page_of(explained(), tmp_path)
    assert '<td class="left other">right</td><td class="left other">left</td>' in page
    assert "<td>11</td><td>22</td>" in page


def test_every_string_is_escaped_and_the_page_is_whole_by_itself(tmp_path: Path) -> None:
    result = explained(feature(EVIL, teacher=0.5), env=EVIL, rules=EVIL, actions=[EVIL, "right"])
    result["teacher"] |= {"algo": EVIL, "source": EVIL}
    result["student"]["file"] = EVIL
    result["disagreements"][0]["feature"] = EVIL
    page = page_of(result, tmp_path)
    assert "<script" not in page
    assert "<img" not in page
    assert "http" not in page
