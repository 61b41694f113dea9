"""The metric that models are compared by."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """How a task's metric is shown, and which way is better.

    Attributes:
        metric: its key in a record.
        name: in words.
        unit: what it is shown in, such as ``"%"``; empty for a plain number.
        factor: from the record's number to that unit.
        decimals: that are shown.
        higher_is_better: whether more of it is better.

    Example:
        >>> Score().heading, Score().shown(0.8125)
        ('accuracy [%]', '81.2 %')
        >>> Score("bits", "bits per character", "", 1.0, 3, higher_is_better=False).shown(2.5)
        '2.500'
    """

    metric: str = "accuracy"
    name: str = "accuracy"
    unit: str = "%"
    factor: float = 100.0
    decimals: int = 1
    higher_is_better: bool = True

    @property
    def heading(self) -> str:
        """Name and unit, for a table or an axis."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name

    def shown(self, value: float) -> str:
        """A record's number in the unit.

        Args:
            value: the number.

        Returns:
            The text.
        """
        return f"{self.factor * value:.{self.decimals}f}" + (f" {self.unit}" if self.unit else "")


ACCURACY = Score()
"""Share of the test samples whose class is found."""
