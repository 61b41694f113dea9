"""The text of a compiled program (HLO) as computations and instructions."""

import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

_HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_NAME = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = ")
_OPERAND = re.compile(r"%([\w.-]+)")
_ARRAY = re.compile(r"([a-z]+[0-9]*[a-z0-9]*)\[([\d,]*)\](\{[^}]*\})?")
_TRIPS = re.compile(r'known_trip_count"?:\{"?n"?:"(\d+)"')
_BITS = re.compile(r"\d+")


class Instruction(NamedTuple):
    """One line of a computation.

    Attributes:
        name: unique in its computation.
        shape: type of the result, as text.
        opcode: such as ``fusion`` or ``copy-start``.
        operands: names of instructions of the same computation.
        rest: attributes, as text.
    """

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    rest: str

    def attribute(self, name: str) -> str | None:
        """Value of ``name=value`` among the attributes, without a percent sign; None if there is none."""
        found = re.search(rf'\b{name}=%?"?([\w.$-]+)', self.rest)
        return found[1] if found else None

    @property
    def branches(self) -> tuple[str, ...]:
        """Computations of a conditional."""
        found = re.search(r"branch_computations=\{([^}]*)\}", self.rest)
        if found:
            return tuple(_OPERAND.findall(found[1]))
        return tuple(
            computation
            for side in ("true_computation", "false_computation")
            if (computation := self.attribute(side)) is not None
        )

    @property
    def group_count(self) -> int:
        """Groups of a convolution, 1 if it has none."""
        return max(map(int, re.findall(r"(?:feature|batch)_group_count=(\d+)", self.rest)), default=1)


class Computation:
    """A list of instructions.

    Attributes:
        name: unique in the program.
        instructions: in the order of the text, the last being the result.
    """

    def __init__(self, name: str, instructions: Sequence[Instruction]) -> None:
        self.name = name
        self.instructions = tuple(instructions)

    @cached_property
    def by_name(self) -> Mapping[str, Instruction]:
        """The instructions by name."""
        return {instruction.name: instruction for instruction in self.instructions}

    @cached_property
    def parameters(self) -> Sequence[Instruction]:
        """Its parameters, by number."""
        found = [instruction for instruction in self.instructions if instruction.opcode == "parameter"]
        return sorted(found, key=lambda parameter: int(parameter.rest.split(")")[0]))

    def users(self, name: str) -> list[Instruction]:
        """The instructions that an instruction's result goes to."""
        return [instruction for instruction in self.instructions if name in instruction.operands]


class Program(NamedTuple):
    """A compiled program.

    Attributes:
        computations: by name.
        entry: name of the outermost.
    """

    computations: Mapping[str, Computation]
    entry: str


def parse(text: str) -> Program:
    """Reads the text of a compiled program.

    Args:
        text: from ``compiled.as_text()``.

    Returns:
        The program.

    Raises:
        ValueError: the text has no entry.

    Example:
        >>> program = parse('ENTRY %main (a: f32[2]) -> f32[2] {\\n  ROOT %a = f32[2]{0} parameter(0)\\n}')
        >>> program.computations[program.entry].instructions[0].opcode
        'parameter'
    """
    computations: dict[str, Computation] = {}
    entry, name = "", ""
    instructions: list[Instruction] = []
    for line in text.splitlines():
        if head := _HEAD.match(line):
            name, instructions = head[2], []
            entry = name if head[1] else entry
        elif line.startswith("}") and name:
            computations[name], name = Computation(name, instructions), ""
        elif name and (start := _NAME.match(line)):
            instructions.append(_instruction(start[1], line[start.end() :]))
    if not entry:
        raise ValueError("the text holds no ENTRY computation, so it is not that of a compiled program")
    return Program(computations, entry)


def _instruction(name: str, text: str) -> Instruction:
    end = _closing(text, 0) if text.startswith("(") else text.index(" ")
    shape, text = text[:end], text[end:].lstrip()
    begin = text.index("(")
    end = _closing(text, begin)
    inside = text[begin + 1 : end - 1]
    # The number of a parameter and the value of a constant stand where others have operands.
    rest = inside + ")" + text[end:] if text[:begin] in ("parameter", "constant") else text[end:]
    return Instruction(name, shape, text[:begin], tuple(_OPERAND.findall(inside)), rest)


def _closing(text: str, begin: int) -> int:
    """Where the bracket that opens at ``begin`` has closed."""
    depth = 0
    for index in range(begin, len(text)):
        depth += (text[index] == "(") - (text[index] == ")")
        if depth == 0:
            return index + 1
    return len(text)


def arrays(shape: str) -> list[tuple[str, int, bool]]:
    """The arrays of a type.

    Args:
        shape: such as ``(f32[2,3]{1,0}, s32[]{:S(1)})``.

    Returns:
        For each (element type, number of elements, whether it lies in the main memory).

    Example:
        >>> arrays("(f32[2,3]{1,0}, s32[]{:T(128)S(1)})")
        [('f32', 6, True), ('s32', 1, False)]
    """
    return [
        (kind, math.prod(int(size) for size in sizes.split(",") if size), "S(" not in layout)
        for kind, sizes, layout in _ARRAY.findall(shape)
    ]


def bytes_of(shape: str, main_memory_only: bool = False) -> int:
    """Bytes of a type, without the padding of tiled layouts.

    Args:
        shape: as in `arrays`.
        main_memory_only: leave out what lies in a TPU's vector memory.

    Returns:
        The sum over its arrays.

    Example:
        >>> bytes_of("(bf16[4]{0}, pred[8]{0}, f32[])")
        20
    """
    return sum(
        math.ceil(elements * _bits(kind) / 8)
        for kind, elements, in_main_memory in arrays(shape)
        if in_main_memory or not main_memory_only
    )


def _bits(kind: str) -> int:
    if kind == "pred":
        return 8
    found = _BITS.search(kind)
    return int(found[0]) if found else 0


def trip_count(program: Program, loop: Instruction) -> int | None:
    """How often a loop's body runs, where the program says so.

    Args:
        program: the program.
        loop: a ``while``.

    Returns:
        The number that the compiler notes, or the constant that the condition compares with; None if it is known at run
        time only.
    """
    if known := _TRIPS.search(loop.rest):
        return int(known[1])
    condition = program.computations[loop.attribute("condition") or ""]
    result = condition.instructions[-1]
    if result.opcode == "fusion":
        return None
    if result.opcode != "compare" or result.attribute("direction") != "LT":
        return None
    bound = condition.by_name[result.operands[1]]
    return int(bound.rest.split(")")[0]) if bound.opcode == "constant" else None
