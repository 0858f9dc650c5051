"""The tools: what each is called, what it takes, and what it answers, in JSON. No protocol is spoken here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from kd_agent.errors import KDError, unknown
from kd_agent.serving.observations import Schema, shown
from kd_agent.serving.students import ServedStudent
from kd_agent.settings import ServeConfig

MAX_EPISODES = 1000
"""Of one call to `play`: nobody can end it before."""
_EPISODES = 10
_SEED = 20_000
"""That of a verdict's first episode, as `kd-agent evaluate` has it."""
_MAX_SEED = 2**31 - 1 - MAX_EPISODES

# What a model reads when it chooses a tool.
_LIST = "Which policies there are: environment, what each observes and can do."
_ACT = "The action that a policy takes where it observes this, in the environment's units."
_PROBABILITIES = "How probable each action is to a policy that observes this. Nothing is remembered of the call."
_EXPLAIN = (
    "Why a policy acts as it does here: the runner-up, and the numbers of the observation that matter most (kl: how "
    "far the answer moves, in nats, where a number is another that the policy meets)."
)
_PLAY = "Play seeded episodes of a policy in its environment: the return of each, their mean and the worst."
_MASK = "true for each action that is allowed (default: all are; a policy that plays with masks wants it said)"


@dataclass(frozen=True)
class Tool:
    """A tool.

    Attributes:
        name: What it is called.
        description: What it does, for the model that chooses.
        schema: Of its arguments.
        run: From arguments to the answer.
        is_slow: Whether a call takes more than a moment.
    """

    name: str
    description: str
    schema: Schema
    run: Callable[[Mapping[str, Any]], dict[str, Any]]
    is_slow: bool = False


class Toolbox:
    """The tools over some students.

    Args:
        students: Who is served, by name.
        config: Where they play.

    Attributes:
        tools: The tools, by name.
    """

    def __init__(self, students: Mapping[str, ServedStudent], config: ServeConfig) -> None:
        self._students = students
        self._config = config
        self._worlds: dict[str, Any] = {}
        self.tools = {tool.name: tool for tool in self._tools()}

    def call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Run a tool.

        Args:
            name: The tool's.
            arguments: As its schema has them.

        Raises:
            KDError: There is no such tool, or an argument is wrong; the message is for the model.
        """
        tool = self.tools.get(name)
        if tool is None:
            raise unknown("tool", name, self.tools)
        properties = tool.schema["properties"]
        for argument in arguments:
            if argument not in properties:
                raise unknown(f"argument of {name}", argument, properties)
        for argument in tool.schema["required"]:
            if argument not in arguments:
                raise KDError(f"{argument} is missing{self._choices(argument)}")
        return tool.run(arguments)

    def world(self, name: str) -> Any:
        """The environment of a student, made when it is first needed: with it comes torch.

        Raises:
            KDError: It is not to be had.
        """
        if name not in self._worlds:
            world = import_module("kd_agent.serving.world")
            self._worlds[name] = world.World(self._students[name], self._config)
        return self._worlds[name]

    def _tools(self) -> list[Tool]:
        policy: Schema = {"type": "string", "enum": list(self._students), "description": "which policy"}
        asked = {"policy": policy, "observation": self._observation_schema(), **self._mask_schema()}
        acting = {**asked, **self._reset_schema()}
        playing = {
            "policy": policy,
            "episodes": {"type": "integer", "minimum": 1, "maximum": MAX_EPISODES, "default": _EPISODES},
            "seed": {"type": "integer", "minimum": 0, "maximum": _MAX_SEED, "default": _SEED},
        }
        needed = ("policy", "observation")
        return [
            Tool("list_policies", _LIST, _object({}), self._list_policies),
            Tool("act", _ACT, _object(acting, *needed), self._act),
            Tool("probabilities", _PROBABILITIES, _object(asked, *needed), self._probabilities),
            Tool("explain", _EXPLAIN, _object(asked, *needed), self._explain, is_slow=True),
            Tool("play", _PLAY, _object(playing, "policy"), self._play, is_slow=True),
        ]

    def _observation_schema(self) -> Schema:
        """The schema of the only student's observation, or of any student's."""
        schemas: list[Schema] = []
        for student in self._students.values():
            schema = student.observations.schema()
            if schema not in schemas:
                schemas.append(schema)
        if len(schemas) == 1:
            return schemas[0]
        return {"anyOf": schemas, "description": "as list_policies has it for the policy"}

    def _mask_schema(self) -> dict[str, Schema]:
        schemas = [student.actions.mask_schema() for student in self._students.values()]
        if not any(schemas):
            return {}
        # Of several students each has its own number of flags.
        schema: Schema = {"type": "array", "items": {"type": "boolean"}}
        if len(schemas) == 1 and schemas[0]:
            schema = schemas[0]
        return {"action_mask": {**schema, "description": _MASK}}

    def _reset_schema(self) -> dict[str, Schema]:
        if not any(student.policy.recurrent for student in self._students.values()):
            return {}
        return {"reset": {"type": "boolean", "description": "whether an episode begins: a policy with memory forgets"}}

    def _choices(self, argument: str) -> str:
        return f"; choose from: {', '.join(self._students)}" if argument == "policy" else ""

    def _student(self, arguments: Mapping[str, Any]) -> ServedStudent:
        name = arguments["policy"]
        if not isinstance(name, str) or name not in self._students:
            raise unknown("policy", name if isinstance(name, str) else shown(name), self._students)
        return self._students[name]

    def _list_policies(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {"policies": [student.describe() for student in self._students.values()]}

    def _act(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        student = self._student(arguments)
        observation = student.observations.read(arguments["observation"])
        mask = student.actions.read_mask(arguments.get("action_mask"))
        if _flag(arguments, "reset"):
            student.forget()
        return student.actions.action(student.act(observation, mask))

    def _probabilities(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        student = self._student(arguments)
        observation = student.observations.read(arguments["observation"])
        mask = student.actions.read_mask(arguments.get("action_mask"))
        row = student.rows({key: array[None] for key, array in observation.items()}, mask)[0]
        return student.actions.probabilities(row)

    def _explain(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        student = self._student(arguments)
        observation = student.observations.read(arguments["observation"])
        mask = student.actions.read_mask(arguments.get("action_mask"))
        answer: dict[str, Any] = self.world(student.name).explain(observation, mask)
        return answer

    def _play(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        student = self._student(arguments)
        episodes = _whole(arguments, "episodes", _EPISODES, 1, MAX_EPISODES)
        seed = _whole(arguments, "seed", _SEED, 0, _MAX_SEED)
        answer: dict[str, Any] = self.world(student.name).play(episodes, seed)
        return answer


def _object(properties: dict[str, Schema], *required: str) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _flag(arguments: Mapping[str, Any], name: str) -> bool:
    value = arguments.get(name, False)
    if not isinstance(value, bool):
        raise KDError(f"{name} is {shown(value)}; expected true or false")
    return value


def _whole(arguments: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = arguments.get(name, default)
    # 3.0 is a whole number of JSON too; NaN is in no range.
    if type(value) not in (int, float) or not low <= value <= high or value != int(value):
        raise KDError(f"{name} is {shown(value)}; expected a whole number from {low} to {high}")
    return int(value)
