"""What a row of the bench gives: figures with their goals."""
import math
import statistics
from dataclasses import dataclass, field


@dataclass
class Figure:
    """One thing that was measured, once a round. Between low and high the goal is reached; with neither there is no goal."""
    row: int
    name: str
    values: list
    unit: str = ""
    low: float = None
    high: float = None
    digits: int = 2
    note: str = ""
    median: float = field(init=False)

    def __post_init__(self):
        self.values = [float(v) for v in self.values]
        self.median = statistics.median(self.values)

    def has_goal(self):
        return self.low is not None or self.high is not None

    def reached(self):
        """None where there is no goal."""
        if not self.has_goal():
            return None
        return (self.low is None or self.median >= self.low) and (self.high is None or self.median <= self.high)

    def text(self, value):
        return f"{value:,.{self.digits}f}"

    def goal_text(self):
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        if self.low is not None:
            return f"≥ {self.low:,.{self.goal_digits(self.low)}f}"
        return f"≤ {self.high:,.{self.goal_digits(self.high)}f}" if self.has_goal() else ""

    def goal_digits(self, value):
        return 0 if value == int(value) and value >= 10 else max(self.digits, 1)

    def score(self, value):
        """How far a value is on its way to the goal: 1 is the goal, more is better, whether the goal is an upper or a lower bound."""
        if self.low is not None and self.high is not None:
            middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
            return half / abs(value - middle) if value != middle else math.inf
        if self.low is not None:
            return value / self.low
        return self.high / value if value > 0 else math.inf

    def as_json(self):
        return {"row": self.row, "name": self.name, "unit": self.unit, "median": self.median, "lowest": min(self.values), "highest": max(self.values),
                "values": self.values, "at_least": self.low, "at_most": self.high, "reached": self.reached(), "note": self.note}


def between(samples, key):
    """Of samples taken before, between and after n runs: for each run the mean of its two neighbours."""
    values = [s[key] for s in samples]
    return [(a + b) / 2 for a, b in zip(values, values[1:])]


def quotients(a, b):
    return [x / y for x, y in zip(a, b)]
