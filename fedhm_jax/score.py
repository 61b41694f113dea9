"""The metric that models are compared by."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """How a task's metric is shown, and which way is better.

    Attributes:
        metric: its key in a record.
        name: in words.
        unit: what it is shown in, such as ``"%"``; empty for a plain number.
        factor: from the record's number to that unit.
        decimals: that are shown; tables show one more.
        higher_is_better: whether more of it is better.

    Example:
        >>> Score().heading, Score().shown(0.8125)
        ('accuracy [%]', '81.2 %')
        >>> Score("bits", "bits per character", "", 1.0, 2, higher_is_better=False).shown(2.5)
        '2.50'
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

    def in_unit(self, value: float | None) -> float:
        """A record's number in the unit; of one that is no number, nothing learned.

        Args:
            value: the number.

        Returns:
            The number in the unit: 0 for no number where more is better, infinity where less is.
        """
        if value is None or math.isnan(value):
            return 0.0 if self.higher_is_better else math.inf
        return self.factor * value

    def shown(self, value: float) -> str:
        """A record's number in the unit, as text.

        Args:
            value: the number.

        Returns:
            The text.
        """
        return f"{self.factor * value:.{self.decimals}f}" + (f" {self.unit}" if self.unit else "")

    def worst(self, values: Iterable[float]) -> float:
        """The worst of some numbers.

        Args:
            values: the numbers, one at least.

        Returns:
            The smallest where more is better, else the largest.
        """
        return (min if self.higher_is_better else max)(values)


ACCURACY = Score()
"""Share of the test samples whose class is found."""
