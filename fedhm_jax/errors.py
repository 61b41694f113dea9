"""The exceptions of a run that cannot start, or cannot go on. Standard library only."""

from pathlib import Path

_LONG = 24
"""Entries of a list that an error still shows in full: more than there are strategies."""


class ConfigError(ValueError):
    """A value the simulator cannot run with.

    The message is one sentence that names the field, the value given and what is allowed. The command line
    prints it and exits with code 2.

    Example:
        >>> str(ConfigError.of("local.epochs", -1, "an integer of at least 1"))
        'local.epochs is -1, but must be an integer of at least 1'
    """

    @classmethod
    def of(cls, field: str, value: object, allowed: str) -> "ConfigError":
        """Builds the standard sentence: ``<field> is <value>, but must be <allowed>``.

        Args:
            field: dotted path of the config field, for example ``"local.epochs"``.
            value: the value that was given.
            allowed: what the field accepts, in words that follow "must be".

        Returns:
            The exception, ready to raise.
        """
        return cls(f"{field} is {shown(value)}, but must be {allowed}")


def shown(value: object) -> str:
    """A value as an error shows it; of a long list only how it begins.

    Args:
        value: of a field.

    Returns:
        The text.

    Example:
        >>> shown("cnn"), shown((1, 2)), shown((0, 1, 2, 3) * 10)
        ("'cnn'", '(1, 2)', '(0, 1, 2, 3, 0, 1, ... of 40 entries)')
    """
    if isinstance(value, list | tuple) and len(value) > _LONG:
        return f"({', '.join(map(repr, value[:6]))}, ... of {len(value)} entries)"
    return str(value) if isinstance(value, int | float) else repr(value)


class DivergedError(RuntimeError):
    """A run whose training has left the finite numbers; the message names the round, the tier and what to change.

    Example:
        >>> str(DivergedError.at(7, ("f4",), "the training loss is inf"))
        'diverged in round 7, tier f4: the training loss is inf; a lower local.learning_rate may help'
    """

    @classmethod
    def at(cls, round: int, tiers: tuple[str, ...], what: str) -> "DivergedError":
        """Builds the standard sentence.

        Args:
            round: 1-based number of the round.
            tiers: names of the tiers where it shows.
            what: what was seen there, in words.

        Returns:
            The exception, ready to raise.
        """
        where = f"tier{'s' if len(tiers) > 1 else ''} {', '.join(tiers)}"
        return cls(f"diverged in round {round}, {where}: {what}; a lower local.learning_rate may help")


class StopSimulation(Exception):
    """To be raised by an ``on_round`` callback: the run ends as if this had been its last round.

    Rounds that were started together with it, in half a second or less, are finished and reported as well. The run
    writes a checkpoint, if it has a folder, and returns its result; it can be resumed.
    """


class CallbackError(RuntimeError):
    """A callback of the user's raised an exception, which is this one's cause; the message names callback and round.

    A run with a folder has written a checkpoint of the round before it gave up.

    Example:
        >>> str(CallbackError.of("plot of __main__", "in round 7", KeyError("loss")))
        "the callback plot of __main__ raised KeyError in round 7: 'loss'"
    """

    @classmethod
    def of(cls, callback: str, when: str, error: Exception) -> "CallbackError":
        """Builds the standard sentence.

        Args:
            callback: its name.
            when: in words, such as ``"in round 7"``.
            error: what it raised.

        Returns:
            The exception, ready to raise.
        """
        return cls(f"the callback {callback} raised {type(error).__name__} {when}: {' '.join(str(error).split())}")


class OutOfMemoryError(RuntimeError):
    """A run that needs more memory than there is; the message names the field that governs it and what to try.

    Attributes:
        clients_per_chunk: value of ``server.clients_per_chunk`` to try; None if another field governs the memory.

    Example:
        >>> str(OutOfMemoryError.of("evaluating", "evaluation.batch_size", 500, "evaluation.batch_size = 250"))
        'ran out of memory while evaluating: evaluation.batch_size is 500; try evaluation.batch_size = 250'
    """

    def __init__(self, message: str, clients_per_chunk: int | None = None) -> None:
        super().__init__(message)
        self.clients_per_chunk = clients_per_chunk

    @classmethod
    def of(
        cls, stage: str, field: str, value: object, remedy: str, clients_per_chunk: int | None = None
    ) -> "OutOfMemoryError":
        """Builds the standard sentence.

        Args:
            stage: what the memory was for, in words that follow "while".
            field: dotted path of the config field that governs how much that takes.
            value: its value; None says that it is unset.
            remedy: what to try.
            clients_per_chunk: as a number, if that is what to try.

        Returns:
            The exception, ready to raise.
        """
        shown = "unset" if value is None else value
        return cls(f"ran out of memory while {stage}: {field} is {shown}; try {remedy}", clients_per_chunk)


class Interrupted(KeyboardInterrupt):
    """A run was stopped by Ctrl-C or SIGTERM, after a whole round and with a checkpoint of it.

    Attributes:
        folder: the run's folder; ``simulate(resume=folder)`` goes on.
        round: number of finished rounds.
        signal: the signal's number.

    Example:
        >>> str(Interrupted(Path("runs/a"), 7, 2))
        "stopped after round 7; simulate(resume='runs/a') goes on from there"
    """

    def __init__(self, folder: Path, round: int, signal: int) -> None:
        super().__init__(f"stopped after round {round}; simulate(resume={str(folder)!r}) goes on from there")
        self.folder = folder
        self.round = round
        self.signal = signal
