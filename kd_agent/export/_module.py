"""What a module of one policy says, in whatever language: the pieces that the languages' templates put together.

Every such module has a function that runs the program on one observation and fills a row; one that acts by it, one
that returns it, and, where the policy is played by samples, one that draws.
"""

from dataclasses import dataclass

from kd_agent.export._decode import decode, masked
from kd_agent.export._language import Lines, block, indented
from kd_agent.export._program import environment_of
from kd_agent.export._sample import noisy
from kd_agent.export._source import Source
from kd_agent.policies import HeadSpec


@dataclass(frozen=True)
class Words:
    """How a language spells what the modules of all of them have.

    Attributes:
        obs: The argument that is an observation, as a function declares it.
        state: Likewise the memory.
        mask: Likewise the mask.
        all: Likewise the question whether the whole row is asked for.
        yes: What is handed on where it is.
        no: What is handed on where it is not.
        check_mask: The statement that refuses a mask of another length.
        number: Type of an action that is a number.
        numbers: Type of an action of several whole numbers.
        box: Type of an action of a Box.
        action: Statements before an action of several numbers is chosen: `{size}` of them, of type `{answer}`.
        done: Statement after it.
        levels: How deep the statements of a function are indented.
    """

    obs: str
    state: str
    mask: str
    all: str
    yes: str
    no: str
    check_mask: str
    number: str
    numbers: str
    box: str
    action: tuple[str, ...]
    done: str
    levels: int = 1

    def answer(self, head: HeadSpec) -> str:
        """Type of an action."""
        if head.kind == "categorical":
            return self.number
        return self.box if head.is_gaussian else self.numbers


def pieces(source: Source, words: Words) -> dict[str, str]:
    """What a template is filled with; a block of lines ends with its own line break.

    Args:
        source: The program, in its language.
        words: The language's words.

    Returns:
        By name: the arguments as declared (`inputs`, `mask`, `all`) and as handed on (`arguments`, `everything`,
        `acting`); statements (`body`, `mask_row`, `noise`, `decision`); the type of an action (`answer`); `num_params`;
        `env`.
    """
    graph = source.program.graph
    inputs, arguments = words.obs, "obs"
    if graph.states:
        inputs += f", {words.state}"
        arguments += ", state"
    everything = acting = declared = ""
    if source.program.rest:  # an action can do without some operations
        declared = f", {words.all}"
        everything = f", {words.yes}"
        acting = f", {words.no}"
    mask = ""
    mask_row: Lines = []
    if graph.head.expects_masks:
        mask = f", {words.mask}"
        mask_row = [words.check_mask, *masked(source, graph.head)]
    noise: Lines = []
    statements = {"body": source.body(), "decision": _decision(source, words), "mask_row": mask_row}
    if graph.sampled:
        noise = noisy(source, graph.head)
    statements["noise"] = noise
    return {
        "inputs": inputs,
        "arguments": arguments,
        "mask": mask,
        "all": declared,
        "everything": everything,
        "acting": acting,
        "answer": words.answer(graph.head),
        "num_params": str(graph.head.num_params),
        "env": environment_of(graph),
        **{name: _deeper(lines, words.levels) for name, lines in statements.items()},
    }


def mask_layout(source: Source) -> str:
    """What the flags of a mask are, in words."""
    if source.program.graph.head.kind == "bernoulli":
        return "two flags a bit, for 0 and for 1"
    return "a flag an action"


def _decision(source: Source, words: Words) -> Lines:
    head = source.program.graph.head
    chosen = decode(source, head)
    if head.kind == "categorical":
        return chosen
    size = len(head.low or head.nvec)
    begin = [line.format(size=size, answer=words.answer(head)) for line in words.action]
    end = [words.done] if words.done else []
    return [*begin, *chosen, *end]


def _deeper(lines: Lines, levels: int) -> str:
    for _ in range(levels):
        lines = indented(lines)
    return block(lines)
