"""The metric that models are compared by."""

import math
from collections.abc import Mapping
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

    def shown(self, value: float | None) -> str:
        """A record's number in the unit, as text.

        Args:
            value: the number; None where a file has it for one that is not finite.

        Returns:
            The text.
        """
        if value is None or math.isnan(value):
            return "-"
        return f"{self.factor * value:.{self.decimals}f}" + (f" {self.unit}" if self.unit else "")

    def worst(self, values: Mapping[str, float | None]) -> str:
        """The worst of some models.

        Args:
            values: a record's numbers by model, one at least.

        Returns:
            Name of the model with the smallest number where more is better, else with the largest; one that is no
            number is worse than any.

        Example:
            >>> Score().worst({"f1": 0.9, "f4": 0.7}), Score(higher_is_better=False).worst({"f1": 2.0, "f4": None})
            ('f4', 'f4')
        """
        sign = 1 if self.higher_is_better else -1
        return min(values, key=lambda name: sign * self.in_unit(values[name]))


ACCURACY = Score()
"""Share of the test samples whose class is found."""
