"""A process that holds one built index, so that engines can be timed in turn.

`python -m bench.worker` reads one JSON request a line on stdin and writes one
JSON answer a line on stdout (see serve); Worker is its other end, with
deadlines: a library that crashes or hangs costs its own points, never the run.
Vectors do not travel: both ends load the set from the same folder.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

import numpy as np

from bench import datasets, timing
from bench.datasets import Floats, Ids
from bench.engines import ENGINES
from bench.engines.base import Engine
from bench.folders import REPOSITORY
from bench.ground_truth import filter_mask, ground_truth, padded, recall
from bench.options import IndexOptions
from bench.points import BuildFacts, Measurement, Parameters

WARM_UP = 32  # queries before the clock starts: another engine had the caches
Half = Literal["tune", "report", "all"]  # even query rows choose parameters, odd ones are reported
HALVES = {"tune": slice(0, None, 2), "report": slice(1, None, 2), "all": slice(None)}


class Failed(Exception):
    """The engine of a worker gave no answer; the text is the reason."""


@dataclass(frozen=True)
class Task:
    """What all workers of a run are given: the set, its filter, k."""

    data: str  # folder
    set: str
    cache: str  # folder
    threads: int
    k: int
    rows: int = 0
    queries: int = 0
    metric: str = ""
    share: float = 1.0  # of the rows, that a filter passes
    seed: int = 1


def task_for(name: str, options: IndexOptions, **more: Any) -> Task:
    """The set `name` as the command line wants it."""
    return Task(
        data=str(options.data),
        set=name,
        cache=str(options.cache),
        threads=options.threads,
        k=options.k,
        rows=options.rows,
        queries=options.queries,
        **more,
    )


@dataclass(frozen=True)
class Request:
    """One measurement: at most `limit` queries of a half (0: all), for single queries at most `seconds`."""

    setting: Parameters
    mode: str  # "single" or "batch"
    half: Half
    k: int
    limit: int = 0
    seconds: float = 1e9


@dataclass(frozen=True)
class Queries:
    """Some of the queries, and their truth."""

    rows: Floats
    truth: Ids


def resident_bytes(anonymous: bool = False, trimmed: bool = True) -> int:
    """Memory of this process; `trimmed`: after giving freed pages back to the system, which takes milliseconds.

    `anonymous`: without pages of files.
    """
    try:
        if trimmed:
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/statm", encoding="ascii") as status:
            _, resident, of_files, *_ = map(int, status.read().split())
        return (resident - of_files if anonymous else resident) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError):  # not Linux with glibc
        return 0


class Server:
    """State of the worker process: the set, its truth, the index."""

    engine: Engine
    halves: dict[str, Queries]

    def build(self, request: dict[str, Any]) -> dict[str, Any]:
        """Facts of the build, and the settings worth trying."""
        task = Task(**request["task"])
        data = datasets.load(Path(task.data), task.set, rows=task.rows, queries=task.queries, metric=task.metric)
        allowed = filter_mask(len(data.base), task.share, task.seed)
        truth = ground_truth(data, Path(task.cache), allowed)
        self.halves = {
            name: Queries(np.ascontiguousarray(data.query[rows]), truth[rows]) for name, rows in HALVES.items()
        }
        self.engine = ENGINES[request["engine"]](request["params"])
        n, d = data.base.shape
        before, given = resident_bytes(), data.base.nbytes
        cpu = time.process_time()
        built = timing.timed(lambda: self.engine.build(data.base, data.metric, task.threads))
        cpu = time.process_time() - cpu
        data.base = data.base[:0].copy()
        self.engine.one_thread()
        if allowed is not None:
            self.engine.set_filter(allowed)
        # The base has been dropped: what grew is what the library keeps.
        grown = resident_bytes() - before + given
        memory = self.engine.memory()
        facts = BuildFacts(
            build_seconds=built.seconds,
            build_cpu_seconds=cpu,
            build_threads=task.threads,
            memory_bytes=memory.size,
            memory_kind=memory.kind,
            rss_delta_bytes=grown,
            version=self.engine.version(),
            n=n,
            d=d,
        )
        return {"facts": asdict(facts), "settings": self.engine.settings(task.k)}

    def measure(self, request: dict[str, Any]) -> dict[str, Any]:
        """Times the queries of a request."""
        wanted = Request(**request["request"])
        half = self.halves[wanted.half]
        return asdict(self._single(wanted, half) if wanted.mode == "single" else self._batch(wanted, half))

    def calls(self, wanted: Request, half: Queries) -> timing.Latencies:
        """One query a call, after some to warm up."""
        call = self.engine.callers(wanted.k, wanted.setting).one
        listed = list(half.rows[: wanted.limit or None])
        for row in listed[-WARM_UP:]:
            call(row)
        return timing.one_by_one(call, listed, wanted.seconds)

    def _single(self, wanted: Request, half: Queries) -> Measurement:
        times = self.calls(wanted, half)
        found = padded([self.engine.ids(answer) for answer in times.answers], wanted.k)
        count, wall, cpu = len(found), times.wall_seconds, times.cpu_seconds
        p50, p99 = (float(v) for v in np.percentile(times.micros, [50, 99]))
        share = recall(found, half.truth[:count], wanted.k)
        return Measurement(count / wall, count / cpu, share, cpu / wall, count, p50, p99)

    def _batch(self, wanted: Request, half: Queries) -> Measurement:
        call = self.engine.callers(wanted.k, wanted.setting).many
        rows = half.rows[: wanted.limit or None]
        call(rows[-WARM_UP:])
        cpu = time.process_time()
        answer = timing.timed(lambda: call(rows))
        cpu = time.process_time() - cpu
        found = padded(self.engine.ids(answer.result), wanted.k)
        count, wall = len(found), answer.seconds
        return Measurement(count / wall, count / cpu, recall(found, half.truth[:count], wanted.k), cpu / wall, count)


def serve(server: object) -> None:
    """Answers {"do": name of a method of `server`, ...} until stdin ends."""
    # Libraries print to stdout: keep it for answers, send prints to stderr.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            result = getattr(server, request["do"])(request)
        except Exception as error:  # whatever a library throws belongs in the report
            result = {"error": f"{type(error).__name__}: {error}"[:300]}
        answers.write(json.dumps(result) + "\n")


def environment(threads: int) -> dict[str, str]:
    """Of a worker: set before any library is loaded, since their pools are sized once."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "LANCE_CPU_THREADS")
    more = {name: str(threads) for name in pools}
    return {
        **os.environ,
        **more,
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


@dataclass(frozen=True)
class Built:
    """A build's facts, and the settings worth trying."""

    facts: BuildFacts
    settings: list[Parameters]


T = TypeVar("T")
W = TypeVar("W", bound="Worker")


class Worker:
    """The asking end; a context manager. `log` is a file for what the library prints."""

    module = "bench.worker"  # that serves

    def __init__(self, engine: str, params: Parameters, threads: int, log: IO[str], python: str = sys.executable):
        self.engine, self.params = engine, params
        # Some libraries keep their index in files; the process is killed and cannot remove them.
        self.files = tempfile.TemporaryDirectory(prefix="bench-worker-")
        self.process = subprocess.Popen(
            [python, "-m", self.module],
            env={**environment(threads), "TMPDIR": self.files.name},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        assert self.process.stdin and self.process.stdout
        self.requests, self.answers = self.process.stdin, self.process.stdout
        self.buffer = b""

    def __enter__(self: W) -> W:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Answer within `timeout` seconds, or Failed and the process is gone."""
        deadline = time.monotonic() + timeout
        try:
            self.requests.write(json.dumps(request).encode() + b"\n")
            self.requests.flush()
        except OSError as error:
            raise Failed(self.death()) from error
        with selectors.DefaultSelector() as ready:
            ready.register(self.answers, selectors.EVENT_READ)
            while b"\n" not in self.buffer:
                if not ready.select(max(0, deadline - time.monotonic())):
                    self.close()
                    raise Failed(f"{request['do']}: no answer within {timeout:.0f} s")
                chunk = os.read(self.answers.fileno(), 1 << 20)
                if not chunk:
                    raise Failed(f"{request['do']}: {self.death()}")
                self.buffer += chunk
        line, self.buffer = self.buffer.split(b"\n", 1)
        result: dict[str, Any] = json.loads(line)
        if "error" in result:
            raise Failed(f"{request['do']}: {result['error']}")
        return result

    def build(self, task: Task, timeout: float) -> Built:
        """Builds the index of the engine."""
        request = {"do": "build", "engine": self.engine, "params": self.params, "task": asdict(task)}
        answer = self.ask(request, timeout)
        return Built(BuildFacts(**answer["facts"]), answer["settings"])

    def measure(self, request: Request, timeout: float = 300) -> Measurement:
        """One measurement of the index."""
        return Measurement(**self.ask({"do": "measure", "request": asdict(request)}, timeout))

    def death(self) -> str:
        """How the process ended, in words."""
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.close()
            return "closed its output"
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"worker ended with {name}"

    def close(self) -> None:
        """Ends the process; safe to call twice."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.requests, self.answers):
            try:
                pipe.close()
            except OSError:  # a request was still buffered
                pass
        self.files.cleanup()


class Attempts:
    """Of a class that has a worker: what has failed once is not asked again."""

    worker: Worker
    failure: str

    def label(self) -> str:
        """Its name in messages."""
        raise NotImplementedError

    def attempt(self, what: Callable[[], T]) -> T | None:
        """what(), or None when the worker failed, now or before."""
        if self.failure:
            return None
        try:
            return what()
        except Failed as reason:
            self.failure = str(reason)
            self.worker.close()
            print(f"  {self.label()}: FAILED {reason}", flush=True)
            return None


@dataclass
class Recalls:
    """Recall of an index in some settings; why it ends early where it does."""

    facts: BuildFacts | None = None
    found: list[float] = field(default_factory=list)
    reason: str | None = None


def recalls(engine: str, factory: str, task: Task, settings: list[Parameters], timeout: float, log: Path) -> Recalls:
    """Of all queries, in a process of its own."""
    result = Recalls()
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as file, Worker(engine, {"factory": factory}, task.threads, file) as worker:
        try:
            result.facts = worker.build(task, timeout).facts
            for setting in settings:
                request = Request(setting, "batch", "all", task.k)
                result.found.append(worker.measure(request, timeout).recall)
        except Failed as reason:
            result.reason = str(reason)
    said = f"FAILED {result.reason}" if result.reason else ", ".join(f"{recall:.4f}" for recall in result.found)
    print(f"  {engine} {factory}: {said}", flush=True)
    return result


if __name__ == "__main__":
    serve(Server())
