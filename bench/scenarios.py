"""Ways in which the rows of an index change, as steps for any number of rows.

In:  n rows, number of changes. Out: steps (runbooks.py), a search after each change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.runbooks import Runbook, Step

FIRST = 10  # an index that grows begins with a tenth
FOREVER, LATER = 6, 2  # of rows that expire: a sixth never does, a third after half of the steps ..
SOON = 5  # .. and the other half after a fifth of them


def cut(rows: range, parts: int) -> list[range]:
    """`parts` ranges of about equal size, without those that are empty."""
    ends = [rows.start + len(rows) * i // parts for i in range(parts + 1)]
    return [range(begin, end) for begin, end in zip(ends, ends[1:]) if begin < end]


def sliding_window(n: int, changes: int) -> list[Step]:
    """Half of the rows are there; the oldest go, as many come, until all have gone."""
    half = n // 2
    steps = [Step.insert(range(half)), Step.search()]
    for old, new in zip(cut(range(half), changes), cut(range(half, 2 * half), changes)):
        steps += [Step.delete(old), Step.insert(new), Step.search()]
    return steps


def expiration(n: int, changes: int) -> list[Step]:
    """Of the rows of each insert half go soon, a third later, the others never."""
    ends: dict[int, list[range]] = {}
    steps = []
    for number, rows in enumerate(cut(range(n), changes)):
        forever = rows.start + len(rows) // FOREVER
        middle = rows.start + len(rows) // 2
        ends.setdefault(number + max(1, changes // LATER), []).append(range(forever, middle))
        ends.setdefault(number + max(1, changes // SOON), []).append(range(middle, rows.stop))
        steps += [Step.insert(rows), *(Step.delete(old) for old in ends.get(number, []) if old), Step.search()]
    return steps


def growth(n: int, changes: int) -> list[Step]:
    """A tenth of the rows is there, the others come."""
    first = max(1, n // FIRST)
    steps = [Step.insert(range(first)), Step.search()]
    for rows in cut(range(first, n), changes):
        steps += [Step.insert(rows), Step.search()]
    return steps


def churn(n: int, changes: int) -> list[Step]:
    """Half of the rows are there, each of which becomes one of the other half."""
    half = n // 2
    steps = [Step.insert(range(half)), Step.search()]
    for old in cut(range(half), changes):
        steps += [Step.replace(old, range(half + old.start, half + old.stop)), Step.search()]
    return steps


@dataclass(frozen=True)
class Scenario:
    """Steps, and the order of the rows."""

    steps: Callable[[int, int], list[Step]]
    order: str
    text: str


SCENARIOS = {
    "sliding-window": Scenario(sliding_window, "random", "half of the rows, the oldest replaced by new ones"),
    "expiration": Scenario(expiration, "random", "rows that go soon, later or never"),
    "clustered": Scenario(growth, "similar", "ten times the first rows, which are alike"),
    "growth": Scenario(growth, "random", "ten times the first rows"),
    "churn": Scenario(churn, "random", "each row updated to another one"),
}


def runbook_of(name: str, n: int, changes: int, seed: int, order: str = "") -> Runbook:
    """A scenario for n rows, in its own order unless another is given."""
    scenario = SCENARIOS[name]
    return Runbook(name, tuple(scenario.steps(n, changes)), order or scenario.order, seed)
