"""Our index with its raw rows on disk beside peers that leave rows there; bench/tiers --peers prints it.

Each index is open in a process of its own, on one thread, one query a call. The
even query rows choose, of the settings that reach a recall, the fastest cold and
the fastest warm; the odd ones are reported, engines in turn in each repetition.
Cold: before each query the system forgets all files, so what the process has
(`resident`) is all that is in memory. Warm: the page cache has what it wants.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from bench.datasets import load_chosen
from bench.disk_worker import QUERIES, TRUTH, DiskWorker, Searched, Tuned
from bench.engines.on_disk import INDEX, ON_DISK, bound_without_rows
from bench.folders import DISKANN_PYTHON, Unavailable
from bench.ground_truth import ground_truth
from bench.points import Parameters
from bench.tables import megabytes, parameters, reason_cell, table
from bench.worker import Failed, Task, task_for

if TYPE_CHECKING:
    from bench.commands.tiers import Options

PEERS = tuple(name for name in ON_DISK if name != "ours")
HEAD = ("index", "resident MB", "page cache MB", "recall", "median us", "p99 us", "queries/s", "setting")
COLD, WARM = "cold", "warm"
GAIN = 0.001  # of recall: less does not pay for a higher setting
BUILD_SECONDS = 7200.0


@dataclass
class Way:
    """An index in a folder, and how it is opened."""

    engine: str
    label: str
    folder: Path
    params: Parameters
    sweep: list[tuple[Parameters, Tuned]] = field(default_factory=list)
    failure: str = ""

    def worker(self, threads: int, log: IO[str]) -> DiskWorker:
        """diskannpy pins an old numpy, so it has an environment of its own."""
        own = self.engine == "diskann" and DISKANN_PYTHON.is_file()
        return DiskWorker(self.engine, self.params, threads, log, str(DISKANN_PYTHON) if own else sys.executable)


@dataclass
class Chosen:
    """A setting for one recall, cold or warm, measured again in each repetition."""

    way: Way
    worker: DiskWorker
    target: float
    state: str
    setting: Parameters
    runs: list[Searched] = field(default_factory=list)

    def measure(self, options: Options) -> None:
        """One repetition."""
        cold = options.cold if self.state == COLD else 0
        self.runs.append(self.worker.searched(self.setting, options.k, cold))

    def line(self) -> list[str]:
        """A line of the table; of each query the median of all repetitions."""
        micros, last = np.median([run.micros for run in self.runs], axis=0), self.runs[-1]
        return [
            self.way.label,
            megabytes(last.resident),
            megabytes(last.cached),
            f"{last.recall:.3f}",
            f"{np.median(micros):.0f}",
            f"{np.percentile(micros, 99):.0f}",
            f"{1e6 / np.mean(micros):,.0f}",
            parameters(self.setting),
        ]


def factories(factory: str) -> list[str]:
    """The factory string; where it has refine codes, also the one without."""
    without = re.sub(r",SQ\w+(?=,R)", "", factory)
    return [factory] if without == factory else [factory, without]


def our_ways(options: Options, folder: Path) -> list[Way]:
    """One for each factory string."""
    return [
        Way("ours", f"ours {factory}", folder / f"ours-{i}", {"factory": factory})
        for i, factory in enumerate(factories(options.factory))
    ]


def peer_ways(options: Options, folder: Path, bounds: Sequence[int]) -> list[Way]:
    """Peers; DiskANN has as much in memory as the least and the most of ours."""
    ways = []
    if "faiss" in options.peers:
        ways.append(Way("faiss", "Faiss OnDiskInvertedLists", folder / "faiss", {}))
    if "diskann" in options.peers:
        for most in sorted({min(bounds), max(bounds)}):
            memory = {"pq_bytes": min(bounds), "cache_bytes": most - min(bounds)}
            ways.append(Way("diskann", f"DiskANN, {megabytes(most)} MB", folder / "diskann", memory))
    return ways


def build(way: Way, task: Task, log: IO[str]) -> str:
    """Writes the files unless they are there; one line of how long it took."""
    if way.folder.is_dir():
        return ""
    with way.worker(task.threads, log) as worker:
        built = worker.write(task, way.folder, BUILD_SECONDS)
    size = sum(path.stat().st_size for path in way.folder.iterdir())
    said = f"{way.engine} {built['version']} ({way.folder.name}): built in {built['seconds']:.0f} s, "
    print(said := said + f"{megabytes(size)} MB on disk", flush=True)
    return said


def sweep(way: Way, worker: DiskWorker, groups: Sequence[Sequence[Parameters]], options: Options) -> None:
    """Settings of each group, until the recall is reached or stands still."""
    for group in groups:
        last = 0.0
        for setting in group:
            tuned = worker.tune(setting, options.k)
            way.sweep.append((setting, tuned))
            if tuned.recall >= max(options.targets) or tuned.recall < last + GAIN:
                break
            last = tuned.recall


def choose(way: Way, worker: DiskWorker, targets: Sequence[float]) -> list[Chosen]:
    """Of each recall the settings that are fastest cold and warm, where one reaches it."""
    chosen = []
    for target, state in product(targets, (COLD, WARM)):
        able = [(getattr(tuned, state), i) for i, (_, tuned) in enumerate(way.sweep) if tuned.recall >= target]
        if able:
            chosen.append(Chosen(way, worker, target, state, way.sweep[min(able)[1]][0]))
    return chosen


def attempt(way: Way, action: Callable[[], object]) -> None:
    """Does it, unless the way has failed, now or before."""
    if way.failure:
        return
    try:
        action()
    except Failed as reason:
        way.failure = str(reason)
        print(f"  {way.label}: FAILED {reason}", flush=True)


def measured(ways: Sequence[Way], options: Options, folder: Path, log: IO[str]) -> list[Chosen]:
    """All ways, open at the same time, in turn."""
    chosen: list[Chosen] = []

    def begin(way: Way, worker: DiskWorker) -> None:
        sweep(way, worker, worker.open(way.folder, folder, options.k), options)
        chosen.extend(choose(way, worker, options.targets))
        best = max(tuned.recall for _, tuned in way.sweep)
        print(f"  {way.label}: {len(way.sweep)} settings, recall up to {best:.3f}", flush=True)

    with ExitStack() as workers:
        for way in ways:
            worker = workers.enter_context(way.worker(1, log))
            attempt(way, partial(begin, way, worker))
        for _ in range(options.repetitions):
            for one in chosen:
                attempt(one.way, partial(one.measure, options))
    return [one for one in chosen if not one.way.failure]


def write_all(task: Task, options: Options, folder: Path, log: IO[str]) -> tuple[list[Way], list[str]]:
    """Ways whose files are written, and a line for each build; a peer that is not installed costs one line."""
    ours, said, absent = our_ways(options, folder), [], set()
    try:
        said = [build(way, task, log) for way in ours]
    except Failed as reason:  # the factory string
        raise ValueError(str(reason)) from None
    ways = list(ours)
    for way in peer_ways(options, folder, [bound_without_rows(way.folder / INDEX) for way in ours]):
        if way.folder in absent:
            continue
        try:
            said.append(build(way, task, log))
            ways.append(way)
        except Failed as reason:
            absent.add(way.folder)
            shutil.rmtree(way.folder, ignore_errors=True)
            said.append(f"skipped: {way.engine}: {reason_cell(str(reason))}")
    return ways, said


@contextmanager
def folder_and_log(out: Path) -> Iterator[tuple[Path, IO[str]]]:
    """An empty folder for the indexes, gone afterwards, and a log; of one run at a time."""
    folder, name = out / "tiers-peers", out / "tiers-peers.log"
    out.mkdir(parents=True, exist_ok=True)
    with open(name, "a", encoding="utf-8") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(f"another run uses {folder} (allowed: one; --out names another folder)") from None
        log.truncate(0)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder, log
        finally:
            shutil.rmtree(folder)


def compare(name: str, options: Options) -> list[str]:
    """Tables of a set, one for each recall."""
    with folder_and_log(options.out) as (folder, log):
        data = load_chosen(name, options)
        np.save(folder / QUERIES, data.query)
        np.save(folder / TRUTH, ground_truth(data, options.cache))
        n, d = data.base.shape
        del data
        ways, said = write_all(task_for(name, options), options, folder, log)
        chosen = measured(ways, options, folder, log)
    parts = [f"{name}, {n:,} x {d}, recall@{options.k}", "\n".join(f"- {line}" for line in said if line)]
    parts += [f"failed: {way.label}: {reason_cell(way.failure)}" for way in ways if way.failure]
    for target, state in product(options.targets, (COLD, WARM)):
        lines = [one.line() for one in chosen if (one.target, one.state) == (target, state)]
        parts += [f"{name}, recall@{options.k} of {target:g} on the even rows, {state}:", table(HEAD, lines)]
    return parts
