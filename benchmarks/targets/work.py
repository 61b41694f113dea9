"""What a compiled round launches and moves: counted over its computations, local training step by step."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from benchmarks.targets.hlo import Computation, Instruction, Program, bytes_of, trip_count

_NO_KERNELS = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"),
    *("while", "conditional", "call", "opt-barrier", "add-dependency", "domain", "iota"),
    # A TPU's transfers between its memories go on beside the work.
    *("copy-start", "copy-done", "slice-start", "slice-done", "async-update", "async-done"),
    *("all-reduce-done", "all-gather-done", "collective-permute-done", "send-done", "recv-done"),
}
_REDUCTIONS = ("all-reduce", "all-reduce-start")
_LIBRARIES = ("__cublas", "__cudnn", "cublas", "cudnn", "cusolver", "cusparse", "cufft")
_NOT_CALLS = (
    "AllocateBuffer",
    "Sharding",
    "SPMDFullToShardShape",
    "SPMDShardToFullShape",
    "AssumeGatherIndicesInBound",
)
_COPIES = {"copy", "transpose"}
_BACKWARD = "transpose(jvp"
"""In the name that JAX gives to an operation of a gradient."""


class Work(NamedTuple):
    """What a computation does, loops of known length counted as often as they run.

    Attributes:
        kernels: operations that a GPU launches and a TPU runs one after another.
        library_calls: kernels of cuBLAS, cuDNN and their like.
        copies: kernels that copy or transpose and do nothing else.
        grouped: convolutions of several groups.
        convolutions: of one group or several.
        bytes: read and written in the main memory.
        reduced: bytes that are summed over the devices.
    """

    kernels: int = 0
    library_calls: int = 0
    copies: int = 0
    grouped: int = 0
    convolutions: int = 0
    bytes: int = 0
    reduced: int = 0

    def plus(self, other: "Work", times: int = 1) -> "Work":
        """This work, and other work so many times."""
        return Work(*(mine + times * theirs for mine, theirs in zip(self, other, strict=True)))


class RoundWork(NamedTuple):
    """What a compiled round does.

    Attributes:
        steps: one local step of each tier's clients, in the order of the program.
        rest: everything else, loops of unknown length counted once.
    """

    steps: tuple[Work, ...]
    rest: Work


def round_work(program: Program) -> RoundWork:
    """Counts a round's work.

    A local step is the body of the innermost loop of unknown length that holds operations of a gradient.

    Args:
        program: the round's.

    Returns:
        The steps apart from the rest.
    """
    bodies = dict.fromkeys(_step_bodies(program, program.entry))

    def skip(body: str) -> bool:
        return body in bodies

    steps = tuple(_work(program, body, skip=lambda _: False) for body in bodies)
    return RoundWork(steps, _work(program, program.entry, skip))


def _step_bodies(program: Program, name: str) -> Iterator[str]:
    for loop, body in _loops(program, name):
        inside = list(_step_bodies(program, body))
        if inside:
            yield from inside
        elif trip_count(program, loop) is None and _has_gradient(program, body):
            yield body


def _loops(program: Program, name: str) -> Iterator[tuple[Instruction, str]]:
    for instruction in program.computations[name].instructions:
        if instruction.opcode == "while":
            yield instruction, instruction.attribute("body") or ""
        for called in _called(instruction):
            yield from _loops(program, called)


def _called(instruction: Instruction) -> tuple[str, ...]:
    """Computations that an instruction runs once, or one of which it runs."""
    if instruction.opcode == "conditional":
        return instruction.branches
    if instruction.opcode in ("call", "async-start"):
        called = instruction.attribute("to_apply") or instruction.attribute("calls")
        return (called,) if called else ()
    return ()


def _has_gradient(program: Program, name: str) -> bool:
    for instruction in program.computations[name].instructions:
        inside = _called(instruction)
        if instruction.opcode == "while":
            inside = (instruction.attribute("body") or "",)
        if _BACKWARD in instruction.rest or any(_has_gradient(program, called) for called in inside):
            return True
    return False


def _work(program: Program, name: str, skip: Callable[[str], bool]) -> Work:
    total, computation = Work(), program.computations[name]
    for instruction in computation.instructions:
        if instruction.opcode == "while":
            body = instruction.attribute("body") or ""
            if not skip(body):
                total = total.plus(_work(program, body, skip), trip_count(program, instruction) or 1)
        elif inside := _called(instruction):
            total = total.plus(max((_work(program, called, skip) for called in inside), key=lambda work: work.kernels))
        else:
            total = total.plus(_of_instruction(program, computation, instruction))
    return total


def _of_instruction(program: Program, computation: Computation, instruction: Instruction) -> Work:
    opcode, target = instruction.opcode, instruction.attribute("custom_call_target") or ""
    if opcode == "copy-start":
        # From or to the main memory, once.
        return Work(bytes=bytes_of(instruction.shape, main_memory_only=True))
    if opcode in _NO_KERNELS or target in _NOT_CALLS or _is_scalar(instruction):
        return Work()
    fused = program.computations.get(instruction.attribute("calls") or "") if opcode == "fusion" else None
    inside = fused.instructions if fused else (instruction,)
    convolutions = [one for one in inside if one.opcode == "convolution" or "conv" in _target(one)]
    return Work(
        kernels=1,
        library_calls=int(target.startswith(_LIBRARIES)),
        copies=int({one.opcode for one in inside} - {"parameter", "bitcast", "tuple"} in ({"copy"}, {"transpose"})),
        grouped=sum(one.group_count > 1 for one in convolutions),
        convolutions=len(convolutions),
        bytes=_bytes(computation, instruction, fused),
        reduced=bytes_of(instruction.shape) if opcode in _REDUCTIONS else 0,
    )


def _target(instruction: Instruction) -> str:
    return (instruction.attribute("custom_call_target") or "") if instruction.opcode == "custom-call" else ""


def _is_scalar(instruction: Instruction) -> bool:
    """Arithmetic on one number outside of any fusion, which a TPU's scalar core does beside the work."""
    return instruction.opcode not in ("fusion", "custom-call", *_REDUCTIONS) and bytes_of(instruction.shape) <= 8


def _bytes(computation: Computation, instruction: Instruction, fused: Computation | None) -> int:
    """Read and written in the main memory, where an operand that is only sliced or gathered from counts as its part."""
    if fused is None:
        operands = [computation.by_name[name].shape for name in instruction.operands if name in computation.by_name]
        if instruction.opcode in ("gather", "dynamic-slice", "slice"):
            operands = [instruction.shape]
        return sum(bytes_of(shape, main_memory_only=True) for shape in (instruction.shape, *operands))
    read = sum(_read(fused, parameter) for parameter in fused.parameters)
    root = fused.instructions[-1]
    while root.opcode == "bitcast":
        root = fused.by_name[root.operands[0]]
    written = instruction.shape
    if root.opcode == "dynamic-update-slice":
        written = fused.by_name[root.operands[1]].shape
    return read + bytes_of(written, main_memory_only=True)


def _read(fused: Computation, parameter: Instruction) -> int:
    whole = bytes_of(parameter.shape, main_memory_only=True)
    part = 0
    for user in fused.users(parameter.name):
        if user.operands[0] == parameter.name and user.opcode in ("gather", "dynamic-slice", "slice"):
            part += bytes_of(user.shape)
        elif user.operands[0] != parameter.name or user.opcode != "dynamic-update-slice":
            return whole
    return min(part, whole)
