"""The plan: what is asked for wins, teacher and observations decide the rest, and nothing is left open."""

from dataclasses import fields, replace
from typing import Any

import pytest
from fixed_teachers import good
from recorder import TEACHER, layers
from samples import HEADS, make_student

from kd_agent.networks import Origin, Teacher
from kd_agent.policies import ObservationSpec
from kd_agent.runs import plan as plans
from kd_agent.runs.plan import Plan, default_rounds
from kd_agent.settings import DistillConfig, resolve
from kd_agent.teachers import GraphTeacher

NUMBERS = {"obs": ObservationSpec((4,), "float32")}
PICTURES = {"obs": ObservationSpec((84, 84, 3), "uint8")}
OPEN = ("teacher_layer", "student_layer")
"""What may be None in a plan: no layer is compared, or the student's last is."""


def plan(teacher: Teacher = TEACHER, observed: Any = NUMBERS, **settings: Any) -> Plan:
    return Plan.of(resolve(DistillConfig, {"env": "Elsewhere-v0", **settings}), teacher, observed)


def with_memory() -> GraphTeacher:
    """A teacher that remembers."""
    graph = make_student(HEADS["categorical"], "gru", hidden=(6,)).graph()
    return GraphTeacher(graph, Origin("gru", "0" * 64, "student", 1_000))


@pytest.mark.parametrize(("env_steps", "rounds"), [(500, 1), (10_000, 1), (25_000, 2), (79_999, 7), (1_000_000, 8)])
def test_a_small_budget_is_not_cut_into_rounds_too_small_to_learn_from(env_steps: int, rounds: int) -> None:
    assert default_rounds(env_steps) == rounds


@pytest.mark.parametrize(
    ("env_steps", "limit", "n_envs"),
    [(500, 1_000, 1), (2_000, 1_000, 2), (2_000, 200, 10), (100_000, 1_000, 16), (5_000, None, 5), (20_000, 10_000, 2)],
)
def test_as_many_environments_play_as_can_play_a_whole_episode(env_steps: int, limit: int | None, n_envs: int) -> None:
    settings = resolve(DistillConfig, {"env": "Elsewhere-v0", "env_steps": env_steps})
    assert Plan.of(settings, TEACHER, NUMBERS, limit).n_envs == n_envs
    assert Plan.of(settings, TEACHER, PICTURES, limit).n_envs == min(n_envs, 4)


ASKED: dict[str, Any] = {
    "student": "mlp",
    "hidden": (7, 3),
    "grow": False,
    "activation": "tanh",
    "leaves": 5,
    "dropout": 0.3,
    "l2": 0.02,
    "loss": {"kl": 0.75, "relation": 0.5},
    "temperature": 2.5,
    "convention": "rusu",
    "teacher_layer": layers(TEACHER)[0],
    "student_layer": "hidden.0",
    "env_steps": 64,
    "rounds": 5,
    "n_envs": 3,
    "beta_fraction": 0.5,
    "exploration": 0.25,
    "round_steps": 17,
    "final_steps": 11,
    "attempts": 6,
    "exam_episodes": 9,
    "batch_size": 13,
    "learning_rate": 0.017,
}
"""No setting has its default."""


def test_every_setting_of_a_plan_is_among_those_that_are_tried() -> None:
    assert set(ASKED) == {field.name for field in fields(Plan)}
    by_default = plan()
    assert all(getattr(by_default, name) != value for name, value in ASKED.items() if name != "student")


@pytest.mark.parametrize("observed", [NUMBERS, PICTURES], ids=["numbers", "pictures"])
def test_every_setting_that_is_asked_for_wins(observed: Any) -> None:
    found = plan(observed=observed, **ASKED)
    assert {name: getattr(found, name) for name in ASKED} == ASKED


@pytest.mark.parametrize("name", sorted({*plans.NUMBERS, "rounds", "hidden"}))
def test_a_setting_that_is_asked_for_changes_no_other_but_what_follows_from_it(name: str) -> None:
    usual, found = plan(), plan(**{name: ASKED[name]})
    changed = {field.name for field in fields(Plan) if getattr(usual, field.name) != getattr(found, field.name)}
    # Who says a size gets it: it does not grow.
    follows = {"env_steps": {"rounds", "n_envs"}, "hidden": {"grow"}}
    assert changed == {name, *follows.get(name, ())}


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mlp": ({}, plans.NUMBERS),
    "cnn": ({"observed": PICTURES}, plans.IMAGES),
    "gru": ({"teacher": with_memory()}, plans.MEMORY),
    "tree": ({"student": "tree"}, plans.TREE),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_student_has_its_budgets_and_rates(kind: str) -> None:
    given, numbers = KINDS[kind]
    found = plan(**given)
    assert found.student == kind
    assert {name: getattr(found, name) for name in numbers} == numbers
    assert found.rounds == default_rounds(numbers["env_steps"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", [{}, {"temperature": "auto"}, {"loss": {"kl": 1.0}}], ids=str)
def test_nothing_is_left_open_but_the_names_of_two_layers(kind: str, more: dict[str, Any]) -> None:
    found = plan(**KINDS[kind][0], **more)
    undecided = {field.name for field in fields(Plan) if getattr(found, field.name) in (None, "auto")}
    assert undecided <= set(OPEN)


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_may_grow_where_nobody_says_its_size_and_it_can_be_counted(kind: str) -> None:
    assert plan(**KINDS[kind][0]).grow == (kind in ("mlp", "gru"))


@pytest.mark.parametrize("size", [{"hidden": (7, 3)}, {"compression": 20.0}], ids=str)
def test_who_says_a_size_says_whether_it_may_grow(size: dict[str, Any]) -> None:
    assert [plan(**size, **more).grow for more in ({}, {"grow": True}, {"grow": False})] == [False, True, False]
    assert not plan(grow=False).grow


def test_a_compression_is_a_size_and_changes_nothing_else() -> None:
    """Of 1,000 parameters 50 are left: 4 * 5 + 5 and 5 * 4 + 4 are 49."""
    found = plan(compression=20.0)
    assert found.hidden == (5,)
    assert replace(found, hidden=plan().hidden, grow=True) == plan()


def test_the_defaults_are_those_that_the_documentation_names() -> None:
    assert (plan().env_steps, plan().n_envs, plan().final_steps, plan().attempts) == (100_000, 16, 6_000, 8)
    pictures = plan(observed=PICTURES)
    assert (pictures.env_steps, pictures.n_envs, pictures.final_steps, pictures.attempts) == (40_000, 4, 3_000, 3)


def test_a_tree_has_no_gradient_steps_whatever_is_asked_for() -> None:
    found = plan(student="tree", round_steps=5, final_steps=7, attempts=2)
    assert (found.round_steps, found.final_steps, found.attempts) == (0, 0, 2)


def test_no_steps_are_what_is_asked_for_too() -> None:
    assert plan(round_steps=0).round_steps == 0
    assert plan(exploration=0.0, beta_fraction=0.0).exploration == 0.0


def test_a_linear_student_is_a_size_that_is_asked_for() -> None:
    assert plan(hidden=0).hidden == ()
    assert plan().hidden != ()


def test_the_loss_is_the_heads_where_nobody_says() -> None:
    assert plan().loss == {"kl": 1.0}
    box = GraphTeacher(make_student(HEADS["diag_gaussian"]).graph(), Origin("box", "0" * 64, "student", 1_000))
    assert plan(box).loss == {"mse": 1.0}


def test_a_layer_is_kept_where_a_loss_compares_it_and_only_there() -> None:
    assert plan(teacher_layer="policy.0").teacher_layer is None
    assert plan(loss={"hint": 1.0}).teacher_layer == TEACHER.last_layer
    assert plan(loss={"hint": 1.0}, teacher_layer="any").teacher_layer == "any"


def test_a_teacher_without_layers_leaves_none_to_compare() -> None:
    assert plan(good(), loss={"relation": 1.0}).teacher_layer is None


def test_a_temperature_that_is_to_be_chosen_is_1_until_it_is() -> None:
    assert plan(temperature="auto").temperature == 1.0


def test_a_student_with_a_memory_that_sees_images_has_the_budget_of_images() -> None:
    found = plan(with_memory(), PICTURES)
    assert found.student == "gru"
    assert {name: getattr(found, name) for name in plans.IMAGES} == plans.IMAGES
