"""A process that has one index and does the steps of a runbook with it.

`python -m bench.stream_worker` answers as worker.py does; StreamWorker is its
other end. The rows, in the order of the runbook, and the queries are files that
all processes map.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import timing
from bench.datasets import Dataset, Ids, Metric, Rows, copied
from bench.engines.streaming import STREAMING, Maintained, Room, Streaming
from bench.ground_truth import ground_truth, padded, recall
from bench.points import Parameters
from bench.runbooks import LiveRows, Step
from bench.worker import Queries, Request, Server, Worker, serve

BASE, QUERY, TRUTH = "base.npy", "query.npy", "truth.npy"
OPEN_SECONDS, SEARCH_SECONDS, CHANGE_SECONDS = 120.0, 600.0, 24 * 3600.0


@dataclass(frozen=True)
class Stream:
    """What all processes of a run are given."""

    folder: str  # of the files
    metric: Metric
    room: Room
    threads: int


@dataclass(frozen=True)
class Searches:
    """How an index is searched, in words that all adapters have."""

    k: int
    widths: tuple[int, ...]  # lists probed, or widths of searches in a graph
    candidates: int


@dataclass(frozen=True)
class Opened:
    """An index that is ready for its first rows."""

    version: str  # of the library
    settings: tuple[Parameters, ...]


@dataclass(frozen=True)
class Changed:
    """One step that changes rows, or the building of a whole index."""

    operation: str  # of the step; "train": the first insert, "rebuild": all rows anew
    rows: int
    seconds: float
    maintain_seconds: float = 0.0
    maintained_rows: int = 0
    maintained_lists: int = 0


@dataclass(frozen=True)
class Ready:
    """An index before the measurements of a search step."""

    rebuilt: Changed | None
    imbalance: float | None


@dataclass(frozen=True)
class Searched:
    """All queries in one setting."""

    recall: float
    micros: list[float]  # of each


def true_tags(data: Dataset, cache: Path, live: LiveRows) -> Ids:
    """Tags of the exact neighbours of the queries among the rows that are there."""
    return np.asarray(live.tag_of[ground_truth(data, cache, live.flags)])


class StreamServer(Server):
    """State of the worker process."""

    engine: Streaming
    stream: Stream
    base: Rows
    live: LiveRows
    begun: bool = False

    def open(self, request: dict[str, Any]) -> dict[str, Any]:
        """Loads the library; its version, and the settings of the searches."""
        given = request["stream"]
        self.stream = Stream(**{**given, "room": Room(**given["room"])})
        self.base = np.load(Path(self.stream.folder) / BASE, mmap_mode="r")
        self.live = LiveRows(len(self.base))
        self.engine = STREAMING[request["engine"]](request["params"])
        self.engine.threads = self.stream.threads
        searches = Searches(**request["searches"])
        settings = [self.engine.setting(searches.k, width, searches.candidates) for width in searches.widths]
        return {"version": self.engine.version(), "settings": settings}

    def change(self, request: dict[str, Any]) -> dict[str, Any]:
        """A step that changes rows; nothing yet where the index is made anew before a search."""
        step = Step(request["operation"], range(*request["tags"]), range(*request["rows"]))
        self.live.apply(step)
        if self.engine.rebuilds:
            return {}
        tags, rows = np.array(step.tags, dtype=np.int64), copied(self.base, slice(step.rows.start, step.rows.stop))
        self.engine.many_threads()
        if not self.begun:
            return asdict(self._begin("train", tags, rows))
        changes = {
            "insert": lambda: self.engine.insert(tags, rows),
            "delete": lambda: self.engine.remove(tags),
            "replace": lambda: self.engine.replace(tags, rows),
        }
        seconds = timing.timed(changes[step.operation]).seconds
        return asdict(self._maintained(Changed(step.operation, len(tags), seconds)))

    def _begin(self, operation: str, tags: Ids, rows: Rows) -> Changed:
        """An index of these rows."""
        engine, stream = self.engine, self.stream
        seconds = timing.timed(lambda: engine.begin(tags, rows, stream.metric, stream.room)).seconds
        self.begun = True
        return self._maintained(Changed(operation, len(tags), seconds))

    def _maintained(self, done: Changed) -> Changed:
        """Afterwards, where the index is maintained by calls."""
        if not self.engine.maintains:
            return done
        took: timing.Timed[Maintained] = timing.timed(self.engine.maintain)
        return Changed(done.operation, done.rows, done.seconds, took.seconds, took.result.rows, took.result.lists)

    def ready(self, request: dict[str, Any]) -> dict[str, Any]:
        """Before the measurements of a search step: reads the truth; makes the index anew where it is never changed."""
        folder, rebuilt = Path(self.stream.folder), dict[str, Any]()
        self.halves = {"all": Queries(np.load(folder / QUERY), np.load(folder / TRUTH))}
        if self.engine.rebuilds:
            tags = self.live.tags
            self.engine.many_threads()
            rebuilt = asdict(self._begin("rebuild", tags, copied(self.base, self.live.row_of[tags])))
        self.engine.one_thread()
        return {"rebuilt": rebuilt, "imbalance": self.engine.imbalance()}

    def search(self, request: dict[str, Any]) -> dict[str, Any]:
        """All queries in one setting: recall, microseconds of each."""
        wanted, queries = Request(request["setting"], "single", "all", request["k"]), self.halves["all"]
        times = self.calls(wanted, queries)
        found = padded([self.engine.ids(answer) for answer in times.answers], wanted.k)
        return {"recall": recall(found, queries.truth, wanted.k), "micros": times.micros}


class StreamWorker(Worker):
    """The asking end."""

    module = "bench.stream_worker"

    def open(self, stream: Stream, searches: Searches) -> Opened:
        """Loads the library."""
        given = {"engine": self.engine, "params": self.params, "stream": asdict(stream)}
        answer = self.ask({"do": "open", **given, "searches": asdict(searches)}, OPEN_SECONDS)
        return Opened(answer["version"], tuple(answer["settings"]))

    def change(self, step: Step) -> Changed | None:
        """Does a step that changes rows; None where that has no cost of its own."""
        ends = {"tags": [step.tags.start, step.tags.stop], "rows": [step.rows.start, step.rows.stop]}
        return self._changed(self.ask({"do": "change", "operation": step.operation, **ends}, CHANGE_SECONDS))

    def ready(self) -> Ready:
        """Before measurements; what it has cost, if anything."""
        answer = self.ask({"do": "ready"}, CHANGE_SECONDS)
        return Ready(self._changed(answer["rebuilt"]), answer["imbalance"])

    def search(self, setting: Parameters, k: int) -> Searched:
        """All queries, one a call."""
        return Searched(**self.ask({"do": "search", "setting": setting, "k": k}, SEARCH_SECONDS))

    @staticmethod
    def _changed(answer: dict[str, Any]) -> Changed | None:
        return Changed(**answer) if answer else None


if __name__ == "__main__":
    serve(StreamServer())
