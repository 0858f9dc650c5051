"""The page of a run: what it shows, that nothing in it is anybody else's code, and that it is the same again."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd_agent.report import html
from kd_agent.runs import RunFolder

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def player(mean: float, **more: Any) -> dict[str, Any]:
    """The figures of a policy that played thirty episodes."""
    returns = (mean + np.random.default_rng(0).normal(size=30) * 20).tolist()
    return {
        "returns": returns,
        "mean": mean,
        "mean_ci": [mean - 5.0, mean + 5.0],
        "lower_tail": mean - 30.5,
        "iqm": mean + 1.25,
        "median": mean + 2.5,
        "minimum": mean - 40.0,
        "parameters": 12345,
        **more,
    }


def run_result(**more: Any) -> dict[str, Any]:
    """What `result.json` says of a run, as far as the page reads it."""
    return {
        "env": "CartPole-v1",
        "seed": 0,
        "teacher": player(
            200,
            algo="ppo",
            weak=False,
            reward_threshold=475.0,
            better_than_random=True,
            better_otherwise=False,
            mean_otherwise=251.0,
            source="t.zip",
            sha256="ab",
        ),
        "student": player(
            190,
            kl=0.012,
            kl_uniform=0.9,
            agreement=0.97,
            kl_ci=[0.008, 0.021],
            agreement_ci=[0.94, 0.985],
            agreement_episodes=34,
            agreement_tolerance=None,
            mean_abs_difference=None,
            failures=0.125,
            worst=[{"seed": 20_017, "return": 149.5}, {"seed": 20_003, "return": 151.0}],
            file="s.safetensors",
            bytes=999,
            sha256="cd",
        ),
        "random": player(20),
        "versions": {"kd_agent": "0.9", "python": "3.11.7", "platform": "Linux-6"},
        "verdict": {
            "decision": "non-inferior",
            "mean": {"difference": -1.0, "difference_ci": [-5.0, 3.0], "margin": 10.0},
            "lower_tail": {"difference": -7.5, "difference_ci": [-9.0, 2.0], "margin": 100.0},
            "margin": 10.0,
            "reasons": ["the mean holds: yes", "the worst tenth holds: too"],
            "episodes": 30,
            "compression": 12.3,
        },
        "cost": {
            "collect_steps": 1000,
            "verdict_steps": 3456,
            "env_steps": 1000,
            "all_env_steps": 4456,
            "gradient_steps": 20,
            "teacher_s": 1,
            "distill_s": 2,
            "evaluate_s": 3,
        },
        **more,
    }


def size(hidden: list[int], mean: float, rung: int = 2) -> dict[str, Any]:
    """A size that a search tried."""
    interval = [mean - 9, mean + 4]
    return {"hidden": hidden, "rung": rung, "mean": mean, "mean_ci": interval, "parameters": 1000 + sum(hidden)}


def searched(*front: dict[str, Any], margin: float = 10.0) -> dict[str, Any]:
    result = run_result(search={"front": list(front), "chosen": [8, 8], "judged": [{"hidden": [], "decision": "no"}]})
    result["verdict"]["margin"] = margin
    return result


def page_of(result: dict[str, Any], folder: Path) -> str:
    html.write(RunFolder(folder), result)
    return (folder / "report.html").read_text()


def drawn_texts(page: str) -> list[str]:
    """Texts of the drawings: matplotlib writes each as a comment beside its outlines."""
    return re.findall(r"<!-- (.*?) -->", page)


def test_the_figures_are_on_the_page(tmp_path: Path) -> None:
    page = page_of(run_result(), tmp_path)
    assert '<p class="verdict non-inferior"><strong>non-inferior</strong>' in page
    figures = ["190.0", "185.0 to 195.0", "159.5", "191.2", "192.5", "150.0", "12,345"]
    assert f"<td>student</td>{''.join(f'<td>{figure}</td>' for figure in figures)}" in page
    assert "random policy</td><td>20.0</td><td>15.0 to 25.0</td>" in page
    assert "kd_agent 0.9, Python 3.11.7, Linux-6" in page
    assert "teacher (ppo)</td><td>200.0" in page
    assert "<td>same greedy action</td>" in page
    assert {"teacher", "student", "the same seeds", "all episodes"} <= set(drawn_texts(page))


def test_both_parts_of_the_verdict_and_its_reasons_are_on_the_page(tmp_path: Path) -> None:
    page = " ".join(page_of(run_result(), tmp_path).split())
    assert (
        "the student's mean return is -1.0 from the teacher's, 95 % interval -5.0 to 3.0, with a margin of 10.0" in page
    )
    assert "the mean of its worst tenth is -7.5 from the teacher's, with a margin of 100.0 (30 episodes" in page
    assert "<li>the mean holds: yes</li>" in page
    assert "<li>the worst tenth holds: too</li>" in page


def test_the_worst_episodes_and_the_failures_are_on_the_page(tmp_path: Path) -> None:
    page = " ".join(page_of(run_result(), tmp_path).split())
    assert "below the teacher's worst: 12.5 %. Its worst, by seed: 20017 (149.5), 20003 (151.0)." in page


def test_every_purpose_of_steps_has_a_line_and_none_has_two(tmp_path: Path) -> None:
    page = page_of(run_result(), tmp_path)
    assert re.findall(r"<td>environment steps(.*?)</td><td>(.*?)</td>", page) == [
        (", collect", "1,000"),
        (", verdict", "3,456"),
        (" in all", "4,456"),
    ]


def test_a_teacher_that_is_no_better_than_chance_is_said_first_and_in_the_verdict(tmp_path: Path) -> None:
    result = run_result()
    assert "chance" not in page_of(result, tmp_path)
    result["teacher"]["better_than_random"] = False
    page = " ".join(page_of(result, tmp_path).split())
    warning = "The teacher is not shown to be better than chance: mean 200.0, the random policy 20.0."
    assert warning in page
    assert page.index(warning) < page.index("<strong>non-inferior</strong> to a teacher that is no better than chance:")


def test_a_teacher_that_is_better_played_the_other_way_is_warned_of(tmp_path: Path) -> None:
    result = run_result()
    assert "The teacher is worse" not in page_of(result, tmp_path)
    result["teacher"]["better_otherwise"] = True
    assert "The teacher is worse greedy than sampled (251.0)." in page_of({**result, "play": "greedy"}, tmp_path)
    assert "The teacher is worse sampled than greedy (251.0)." in page_of({**result, "play": "sampled"}, tmp_path)


def test_the_same_result_is_the_same_page_and_names_no_date(tmp_path: Path) -> None:
    first = page_of(run_result(), tmp_path)
    assert page_of(run_result(), tmp_path) == first
    assert "dc:date" not in first


def test_the_page_is_whole_by_itself(tmp_path: Path) -> None:
    page = page_of(searched(size([8, 8], 190)), tmp_path)
    assert "<script" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", page)
    assert "<?xml" not in page
    assert page.count("<svg") == page.count("</svg>") == 2


def test_every_string_is_escaped(tmp_path: Path) -> None:
    result = run_result(env=EVIL)
    result["teacher"] |= {"algo": EVIL, "source": EVIL, "sha256": EVIL}
    result["student"] |= {"file": EVIL, "sha256": EVIL}
    result["verdict"]["decision"] = EVIL
    result["temperature"] = {"reason": EVIL}
    page = page_of(result, tmp_path)
    assert "<script>" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") >= 8


def test_a_control_is_shown_where_there_is_one(tmp_path: Path) -> None:
    control = player(150, env_steps=480, difference=40.0, difference_ci=[30.0, 50.0], seconds=2)
    without, beside = page_of(run_result(), tmp_path), page_of(run_result(control=control), tmp_path)
    assert "control" not in without
    assert "trained by PPO alone</td><td>150.0" in beside
    assert "control" in drawn_texts(beside)


def test_a_weak_teacher_is_warned_of(tmp_path: Path) -> None:
    result = run_result()
    assert "The teacher is weak" not in page_of(result, tmp_path)
    result["teacher"]["weak"] = True
    assert "counts as solved from 475.0" in page_of(result, tmp_path)


def test_a_temperature_that_chose_itself_says_why(tmp_path: Path) -> None:
    assert "chose itself" not in page_of(run_result(), tmp_path)
    assert "chose itself: by agreement." in page_of(run_result(temperature={"reason": "by agreement"}), tmp_path)


def test_a_search_has_a_drawing_of_every_size(tmp_path: Path) -> None:
    page = page_of(searched(size([], 180), size([4], 185, rung=1), size([8, 8], 190)), tmp_path)
    texts = drawn_texts(page)
    assert {"linear", "1,000", "4", "1,004", "8x8", "1,016", "teacher, less the margin"} <= set(texts)
    assert "Verdicts, the smallest size first: linear\n  no." in page


def test_a_size_far_below_is_an_arrow_with_its_score(tmp_path: Path) -> None:
    floor = 200 - 6 * 10
    assert "139" in drawn_texts(page_of(searched(size([4], floor - 1), size([8, 8], 190)), tmp_path))
    assert "141" not in drawn_texts(page_of(searched(size([4], floor + 1), size([8, 8], 190)), tmp_path))


@pytest.mark.filterwarnings("error")
def test_a_margin_of_nothing_and_equal_returns_can_be_drawn(tmp_path: Path) -> None:
    result = searched(size([4], 200), size([8, 8], 200), margin=0.0)
    result["teacher"]["returns"] = result["student"]["returns"] = [200.0] * 30
    assert page_of(result, tmp_path).count("<svg") == 2


def test_a_teacher_of_unknown_size_is_called_so(tmp_path: Path) -> None:
    result = run_result()
    result["teacher"]["parameters"] = None
    result["verdict"]["compression"] = None
    page = page_of(result, tmp_path)
    assert "<td>size unknown</td>" in page
    assert "the teacher's size is unknown" in page
    assert "times fewer" not in page
    assert "times fewer" in page_of(run_result(), tmp_path)


def test_agreement_has_its_interval_and_of_continuous_actions_its_tolerance(tmp_path: Path) -> None:
    page = page_of(run_result(), tmp_path)
    assert "0.012 (0.008 to 0.021)" in page
    assert "97.0 % (94.0 to 98.5)" in page
    assert "34 whole episodes" in page
    assert "mean absolute difference" not in page
    result = run_result()
    result["student"] |= {"agreement_tolerance": 0.05, "mean_abs_difference": 0.0321}
    page = page_of(result, tmp_path)
    assert "every part within 5 % of its range" in page
    assert "environment's units</td><td>0.0321" in page


def test_sizes_that_were_tried_and_seeds_are_shown_where_there_are_several(tmp_path: Path) -> None:
    page = page_of(run_result(), tmp_path)
    assert "Sizes tried" not in page
    assert "<h2>Seeds</h2>" not in page
    sizes = [
        {"hidden": [4, 4], "parameters": 1_076, "attempts": 1, "holds": False},
        {"hidden": [], "parameters": 99, "attempts": 3, "holds": True},
    ]
    seeds = [{"seed": 7, "student": player(111), "verdict": {"decision": "undecided"}}]
    page = page_of(run_result(sizes=sizes, seeds=seeds, kept_seed=7), tmp_path)
    words = " ".join(page.split())
    assert "4 x 4 (1,076 parameters, 1 final fit, none holds), linear (99 parameters, 3 final fits, it holds)." in words
    assert "that of seed 7, the best in its validation" in words
    assert "<td>7</td><td>111.0</td>" in page
    assert "<td>undecided</td>" in page
