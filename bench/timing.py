"""Seconds of calls: once, or in turn with minimum and median.

On a machine that others use too, what is compared is measured in turn, so that
a noisy minute hits all alike; the minimum or the median of the repetitions counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Timed(Generic[T]):
    """A result, and how long it took."""

    seconds: float
    result: T


@dataclass
class Times:
    """Seconds of the repetitions of one action."""

    seconds: list[float] = field(default_factory=list)

    @property
    def minimum(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def per(self, count: int) -> Times:
        """Of one of the `count` things that the action does."""
        return Times([seconds / count for seconds in self.seconds])

    def __str__(self) -> str:
        return f"{self.minimum:.4f} / {self.median:.4f}"


def timed(action: Callable[[], T]) -> Timed[T]:
    """Does it once."""
    start = time.perf_counter()
    result = action()
    return Timed(time.perf_counter() - start, result)


def in_turn(actions: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, Times]:
    """First every action once, then every action again, ..."""
    times = {name: Times() for name in actions}
    for _ in range(repetitions):
        for name, action in actions.items():
            times[name].seconds.append(timed(action).seconds)
    return times


def repeated(action: Callable[[], object], repetitions: int) -> Times:
    """One action, again and again."""
    return in_turn({"": action}, repetitions)[""]


def alternated(groups: Iterable[Sequence[T]]) -> list[T]:
    """First of every group, second of every group, ..."""
    listed = list(groups)
    longest = max((len(group) for group in listed), default=0)
    return [group[i] for i in range(longest) for group in listed if i < len(group)]


@dataclass
class Latencies:
    """Calls one by one: their answers, microseconds of each, CPU seconds of all."""

    answers: list[Any] = field(default_factory=list)
    micros: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0

    @property
    def wall_seconds(self) -> float:
        return sum(self.micros) / 1e6


def one_by_one(call: Callable[[Any], Any], rows: Iterable[Any], at_most: float = float("inf")) -> Latencies:
    """`call` of every row, until `at_most` seconds are over."""
    found = Latencies()
    clock, cpu = time.perf_counter, time.process_time()
    deadline = clock() + at_most
    for row in rows:
        start = clock()
        answer = call(row)
        stop = clock()
        found.answers.append(answer)
        found.micros.append(1e6 * (stop - start))
        if stop > deadline:
            break
    found.cpu_seconds = time.process_time() - cpu
    return found
