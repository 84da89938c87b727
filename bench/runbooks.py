"""Runbooks: which rows of a set an index is given, and loses, and when it is searched.

The format is that of the streaming track of big-ann-benchmarks (NeurIPS 2023), as YAML or JSON:

    glove-50:                # the set
      max_pts: 389000
      order: random          # ours, others ignore it: given, random, similar (ORDERS)
      seed: 1                # of that order
      1: {operation: insert, start: 0, end: 200000}
      2: {operation: delete, start: 0, end: 1000}
      3: {operation: replace, tags_start: 1000, tags_end: 2000, ids_start: 200000, ids_end: 201000}
      4: {operation: search}

Ends are not included. An index knows a row by its tag, which is the row's number in
the set until the tag is given another row by `replace`.

In:  a file, or steps of scenarios.py. Out: steps that can be done. Next: stream_worker.py does them.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.datasets import Dataset, Flags, Ids, float_pieces

FIELDS = {  # of a step, by its operation
    "insert": ("start", "end"),
    "delete": ("start", "end"),
    "replace": ("tags_start", "tags_end", "ids_start", "ids_end"),
    "search": (),
}
ORDERS = ("given", "random", "similar")
SUFFIXES = (".json", ".yaml", ".yml")


@dataclass(frozen=True)
class Step:
    """One operation; of a search both ranges are empty."""

    operation: str
    tags: range = range(0)
    rows: range = range(0)  # of the set, in the order of the runbook

    @staticmethod
    def insert(rows: range) -> Step:
        return Step("insert", rows, rows)

    @staticmethod
    def delete(tags: range) -> Step:
        return Step("delete", tags)

    @staticmethod
    def replace(tags: range, rows: range) -> Step:
        return Step("replace", tags, rows)

    @staticmethod
    def search() -> Step:
        return Step("search")

    def entry(self) -> dict[str, Any]:
        """As it stands in a file."""
        ends = (self.tags.start, self.tags.stop, self.rows.start, self.rows.stop)
        return {"operation": self.operation, **dict(zip(FIELDS[self.operation], ends))}


@dataclass(frozen=True)
class Runbook:
    """Steps on the rows of a set, which come in one of the ORDERS."""

    name: str
    steps: tuple[Step, ...]
    order: str = "given"
    seed: int = 1


class LiveRows:
    """Which rows are there, and under which tags."""

    def __init__(self, n: int):
        self.row_of = np.full(n, -1, dtype=np.int64)
        self.tag_of = np.full(n, -1, dtype=np.int64)
        self.count = 0

    @property
    def tags(self) -> Ids:
        """Of all rows that are there, rising."""
        return np.flatnonzero(self.row_of >= 0)

    @property
    def flags(self) -> Flags:
        """Of each row of the set, whether it is there."""
        return np.asarray(self.tag_of >= 0)

    def __len__(self) -> int:
        return self.count

    def apply(self, step: Step) -> None:
        """Does a step; ValueError where it cannot be done."""
        if step.operation == "search":
            if not len(self):
                raise ValueError("search of no rows (allowed: after an insert)")
            return
        tags, rows = slice(step.tags.start, step.tags.stop), slice(step.rows.start, step.rows.stop)
        what = f"{step.operation} of {step.tags.start}..{step.tags.stop - 1}"
        there = int(np.count_nonzero(self.row_of[tags] >= 0))
        if step.operation == "insert" and there:
            raise ValueError(f"{what}: {there} of them are there (allowed: rows that are not)")
        if step.operation != "insert":
            if there < len(step.tags):
                raise ValueError(f"{what}: {len(step.tags) - there} of them are not there (allowed: rows that are)")
            self.tag_of[self.row_of[tags]] = -1
        if step.operation == "delete":
            self.row_of[tags] = -1
            self.count -= there
            return
        if len(step.tags) != len(step.rows):
            raise ValueError(f"{what} by {len(step.rows)} rows (allowed: {len(step.tags)})")
        taken = int(np.count_nonzero(self.tag_of[rows] >= 0))
        if taken:
            raise ValueError(f"{what}: {taken} of the new rows are there (allowed: rows that are not)")
        self.row_of[tags] = np.arange(rows.start, rows.stop)
        self.tag_of[rows] = np.arange(tags.start, tags.stop)
        self.count += len(step.tags) - there


def most_rows(steps: tuple[Step, ...], n: int) -> int:
    """The largest number of rows that are there at a time; ValueError where a step cannot be done."""
    live, most = LiveRows(n), 0
    for number, step in enumerate(steps, 1):
        try:
            live.apply(step)
        except ValueError as wrong:
            raise ValueError(f"step {number}: {wrong}") from None
        most = max(most, len(live))
    if not any(step.operation == "search" for step in steps):
        raise ValueError("no step is a search (allowed: one and more)")
    return most


def permutation(data: Dataset, order: str, seed: int) -> Ids:
    """Numbers of the rows (n,) in one of the ORDERS; "similar": by similarity to a random row."""
    n = len(data.base)
    if order == "given":
        return np.arange(n)
    random = np.random.default_rng(seed)
    if order == "random":
        return random.permutation(n)
    chosen = np.asarray(data.base[random.integers(n)], dtype=np.float32)
    parts = []
    for rows in float_pieces(data.base):
        score = rows @ chosen
        parts.append(2 * score - np.einsum("nd,nd->n", rows, rows) if data.metric == "l2" else score)
    return np.argsort(-np.concatenate(parts), kind="stable")


# ---------------------------------------------------------------------- files


def _whole(value: object, name: str, high: int | None = None) -> int:
    """`value`, if it is a whole number of 0 to `high`."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0 and (high is None or value <= high):
        return value
    raise ValueError(f"{name} {value!r} (allowed: {'0 and more' if high is None else f'0..{high}'})")


def _step(entry: object, n: int) -> Step:
    """One entry of a file, for a set of n rows."""
    operation = entry.get("operation") if isinstance(entry, Mapping) else None
    if not isinstance(entry, Mapping) or operation not in FIELDS:
        raise ValueError(f"operation {operation!r} (allowed: {', '.join(FIELDS)})")
    ends = []
    for name in FIELDS[operation]:
        if name not in entry:
            raise ValueError(f"{operation} without {name} (it has: {', '.join(map(str, entry))})")
        ends.append(_whole(entry[name], name, n))
    ranges = [range(begin, end) for begin, end in zip(ends[::2], ends[1::2])]
    for names, found in zip(zip(FIELDS[operation][::2], FIELDS[operation][1::2]), ranges):
        if not found:
            raise ValueError(f"{names[1]} {found.stop} (allowed: above {names[0]}, {found.start}, to {n})")
    if operation == "insert":
        return Step.insert(ranges[0])
    return Step(operation, *ranges)


def _parsed(path: Path) -> object:
    """What the file says."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: suffix {path.suffix!r} (allowed: {', '.join(SUFFIXES)})")
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text)
    if importlib.util.find_spec("yaml") is None:
        raise ValueError(f"{path}: PyPI pyyaml is not installed (allowed without it: the same as .json)")
    yaml: Any = importlib.import_module("yaml")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as wrong:
        raise ValueError(" ".join(str(wrong).split())) from None


def _of_content(content: object, name: str, set_name: str, n: int) -> Runbook:
    """The runbook for a set of n rows; the name of the runbook is `name`."""
    if not isinstance(content, Mapping) or not isinstance(content.get(set_name), Mapping):
        sets = ", ".join(map(str, content)) if isinstance(content, Mapping) else "none"
        raise ValueError(f"no steps for the set {set_name!r} (it has: {sets})")
    found = {str(key): value for key, value in content[set_name].items()}  # JSON has no keys but strings
    numbers = sorted(int(key) for key in found if key.isdecimal())
    if numbers != list(range(1, len(numbers) + 1)) or not numbers:
        listed = ", ".join(map(str, numbers[:8])) or "none"
        raise ValueError(f"steps {listed}{', ..' if len(numbers) > 8 else ''} (allowed: 1, 2, 3 and so on)")
    order = found.get("order", "given")
    if order not in ORDERS:
        raise ValueError(f"order {order!r} (allowed: {', '.join(ORDERS)})")
    steps = []
    for number in numbers:
        try:
            steps.append(_step(found[str(number)], n))
        except ValueError as wrong:
            raise ValueError(f"step {number}: {wrong}") from None
    most_rows(tuple(steps), n)
    return Runbook(name, tuple(steps), order, _whole(found.get("seed", 1), "seed"))


def read_runbook(path: Path, set_name: str, n: int) -> Runbook:
    """The runbook of a file for a set of n rows; ValueError says what is wrong with it."""
    try:
        return _of_content(_parsed(path), path.stem, set_name, n)
    except ValueError as wrong:  # json.JSONDecodeError is one
        said = str(wrong)
        raise ValueError(said if said.startswith(str(path)) else f"{path}: {said}") from None


def write_runbook(path: Path, runbook: Runbook, set_name: str, n: int) -> None:
    """A file that `read_runbook` reads, and as YAML also others."""
    head = {"max_pts": most_rows(runbook.steps, n), "order": runbook.order, "seed": runbook.seed}
    entries = {number: step.entry() for number, step in enumerate(runbook.steps, 1)}
    if path.suffix == ".json":
        text = json.dumps({set_name: {**head, **entries}}, indent=1)
    elif path.suffix in SUFFIXES:
        lines = [f"{json.dumps(set_name)}:", *(f"  {key}: {value}" for key, value in head.items())]
        for number, entry in entries.items():
            lines += [f"  {number}:", *(f"    {key}: {value}" for key, value in entry.items())]
        text = "\n".join(lines)
    else:
        raise ValueError(f"{path}: suffix {path.suffix!r} (allowed: {', '.join(SUFFIXES)})")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
