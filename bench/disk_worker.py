"""A process that builds, or has open, one index whose rows stay on disk.

`python -m bench.disk_worker` answers as worker.py does; DiskWorker is its other
end. Building and searching are processes of their own, and rows are not loaded
where an index is open: what the process grows by is what the index keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import datasets, timing
from bench.datasets import Ids
from bench.engines.on_disk import ON_DISK, OnDisk
from bench.ground_truth import padded, recall
from bench.page_cache import cached_bytes, forget
from bench.points import Parameters
from bench.worker import WARM_UP, Task, Worker, resident_bytes, serve

TUNED, TUNED_COLD, TUNE_SECONDS = 500, 40, 1.0  # queries of a setting in the sweep, warm and cold, and most of seconds
QUERIES, TRUTH = "queries.npy", "truth.npy"


@dataclass(frozen=True)
class Tuned:
    """A setting in the sweep, on even query rows; mean microseconds."""

    recall: float
    cold: float
    warm: float


@dataclass(frozen=True)
class Searched:
    """Odd query rows: microseconds of each; bytes."""

    recall: float
    micros: list[float]
    resident: int  # what the process has grown by, beside pages of files
    cached: int  # of the files, in memory of the system


class DiskServer:
    """State of the worker process."""

    engine: OnDisk
    files: list[Path]
    queries: Any
    truth: Ids
    before: int

    def build(self, request: dict[str, Any]) -> dict[str, Any]:
        """Writes the files of an index."""
        task, folder = Task(**request["task"]), Path(request["folder"])
        data = datasets.load(Path(task.data), task.set, rows=task.rows, queries=task.queries)
        engine = ON_DISK[request["engine"]](request["params"])
        built = timing.timed(lambda: engine.build(data.base, data.metric, task.threads, folder))
        return {"seconds": built.seconds, "version": engine.version()}

    def open(self, request: dict[str, Any]) -> dict[str, Any]:
        """Opens the index; the settings worth trying."""
        self.engine = ON_DISK[request["engine"]](request["params"])
        folder, data = Path(request["folder"]), Path(request["queries"])
        queries, self.truth = np.load(data / QUERIES), np.load(data / TRUTH)
        self.files = sorted(path for path in folder.iterdir() if path.is_file())
        self.before = resident_bytes(anonymous=True)
        self.engine.open(folder)
        self.queries = self.engine.queries(queries)
        return {"settings": self.engine.settings(request["k"])}

    def cold(self, rows: Iterable[Any]) -> Iterator[Any]:
        """Each row after the system has forgotten all files."""
        for row in rows:
            for path in self.files:
                forget(path)
            yield row

    def tune(self, request: dict[str, Any]) -> dict[str, Any]:
        """Recall of as many queries as the time allows, how long they take when they come again, and a few cold."""
        k = request["k"]
        call = self.engine.caller(k, request["setting"])
        rows, truth = self.queries[::2][:TUNED], self.truth[::2]
        found = timing.one_by_one(call, rows, TUNE_SECONDS).answers
        warm = timing.one_by_one(call, rows[: min(len(found), TUNED_COLD)], TUNE_SECONDS)
        cold = timing.one_by_one(call, self.cold(rows[:TUNED_COLD]), TUNE_SECONDS)
        means = {"warm": float(np.mean(warm.micros)), "cold": float(np.mean(cold.micros))}
        return {"recall": recall(padded(found, k), truth[: len(found)], k), **means}

    def measure(self, request: dict[str, Any]) -> dict[str, Any]:
        """The first `cold` queries cold, or all of them warm."""
        k, cold = request["k"], request["cold"]
        call = self.engine.caller(k, request["setting"])
        rows, truth = self.queries[1::2], self.truth[1::2]
        if not cold:
            for row in [*rows, *rows[-WARM_UP:]]:
                call(row)
        times = timing.one_by_one(call, self.cold(rows[:cold]) if cold else rows)
        count = len(times.answers)
        return {
            "recall": recall(padded(times.answers, k), truth[:count], k),
            "micros": times.micros,
            "resident": resident_bytes(anonymous=True) - self.before,
            "cached": sum(cached_bytes(path) for path in self.files),
        }


class DiskWorker(Worker):
    """The asking end."""

    module = "bench.disk_worker"

    def write(self, task: Task, folder: Path, timeout: float) -> dict[str, Any]:
        """Builds into a folder: `seconds`, `version`."""
        folder.mkdir(parents=True, exist_ok=True)
        given = {"engine": self.engine, "params": self.params, "task": task.__dict__, "folder": str(folder)}
        return self.ask({"do": "build", **given}, timeout)

    def open(self, folder: Path, queries: Path, k: int, timeout: float = 600) -> list[list[Parameters]]:
        """Opens what was built."""
        given = {"engine": self.engine, "params": self.params, "folder": str(folder), "queries": str(queries), "k": k}
        settings: list[list[Parameters]] = self.ask({"do": "open", **given}, timeout)["settings"]
        return settings

    def tune(self, setting: Parameters, k: int) -> Tuned:
        return Tuned(**self.ask({"do": "tune", "setting": setting, "k": k}, 120))

    def searched(self, setting: Parameters, k: int, cold: int) -> Searched:
        return Searched(**self.ask({"do": "measure", "setting": setting, "k": k, "cold": cold}, 600))


if __name__ == "__main__":
    serve(DiskServer())
