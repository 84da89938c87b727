"""A process that holds one built index, so that engines can be timed in turn.

`python worker.py` reads one JSON request a line on stdin and writes one JSON
answer a line on stdout (see serve); Worker is its other end, with deadlines: a
library that crashes or hangs costs its own points, never the run. Vectors do
not travel: both ends load the set from the same folder.
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
import time
from pathlib import Path

import numpy as np

import datasets
import engines

WARM_UP = 32  # queries before the clock starts: another engine had the caches


class Failed(Exception):
    """The engine of a worker gave no answer; the text is the reason."""


def resident_bytes() -> int:
    """Memory of this process, after giving freed pages back to the system."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/statm", encoding="ascii") as status:
            return int(status.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError):  # not Linux with glibc
        return 0


class Server:
    """State of the worker process: the set, its truth, the index."""

    def build(self, request: dict) -> dict:
        data = datasets.load(
            request["data"], request["set"], request["queries"], request.get("metric", "")
        )
        allowed = datasets.filter_mask(len(data.base), request.get("share", 1))
        truth = datasets.ground_truth(data, request["cache"], allowed)
        # Even rows choose parameters, odd rows are reported.
        self.halves = {}
        for name, rows in (
            ("tune", slice(0, None, 2)),
            ("report", slice(1, None, 2)),
            ("all", slice(None)),
        ):
            self.halves[name] = np.ascontiguousarray(data.query[rows]), truth[rows]
        self.engine = engines.ENGINES[request["engine"]](request["params"])
        n, d = data.base.shape
        before = resident_bytes()
        start, cpu = time.perf_counter(), time.process_time()
        self.engine.build(data.base, data.metric, request["threads"])
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        del data
        self.engine.one_thread()
        if allowed is not None:
            self.engine.set_filter(allowed)
        # The base has been dropped: what grew is what the library keeps.
        grown = resident_bytes() - before + n * d * 4
        size, how = self.engine.memory()
        return {
            "build_seconds": seconds,
            "build_cpu_seconds": cpu,
            "build_threads": request["threads"],
            "memory_bytes": size,
            "memory_kind": how,
            "rss_delta_bytes": grown,
            "version": self.engine.version(),
            "n": n,
            "d": d,
            "settings": self.engine.settings(request["k"]),
        }

    def measure(self, request: dict) -> dict:
        """Times at most `limit` queries of a half; stops after `seconds`.

        qps is by the wall clock, qps_cpu by the CPU time of all threads: equal
        on a quiet machine, and the second holds on one where others compute.
        """
        q, truth = self.halves[request["half"]]
        limit, k, mode = request.get("limit") or len(q), request["k"], request["mode"]
        q, truth = q[:limit], truth[:limit]
        one, many = self.engine.callers(k, request["setting"])
        answers, micros = [], []
        if mode == "single":
            rows = list(q)
            for row in rows[-WARM_UP:]:
                one(row)
            deadline = time.perf_counter() + (request.get("seconds") or 1e9)
            clock, cpu = time.perf_counter, time.process_time()
            for row in rows:
                start = clock()
                answer = one(row)
                stop = clock()
                answers.append(answer)
                micros.append(1e6 * (stop - start))
                if stop > deadline:
                    break
            cpu = time.process_time() - cpu
            wall = sum(micros) / 1e6
            answers = [self.engine.ids(answer) for answer in answers]
        else:
            many(q[-WARM_UP:])
            start, cpu = time.perf_counter(), time.process_time()
            answer = many(q)
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu
            answers = self.engine.ids(answer)
        found = engines.padded(answers, k)
        result = {
            "qps": len(found) / wall,
            "qps_cpu": len(found) / cpu,
            "recall": datasets.recall(found, truth[: len(found)], k),
            "cpu_per_wall": cpu / wall,
            "timed": len(found),
        }
        if micros:
            result["p50_us"], result["p99_us"] = (
                float(v) for v in np.percentile(micros, [50, 99])
            )
        return result


def serve() -> None:
    """Answers {"do": "build" | "measure", ...} until stdin ends."""
    # Libraries print to stdout: keep it for answers, send prints to stderr.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    server = Server()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            result = getattr(server, request["do"])(request)
        except Exception as error:  # whatever a library throws belongs in the report
            result = {"error": f"{type(error).__name__}: {error}"[:300]}
        answers.write(json.dumps(result) + "\n")


class Worker:
    """The asking end. `log` is a file for what the library prints."""

    def __init__(self, engine: str, params: dict, threads: int, log):
        self.engine, self.params = engine, params
        # Set before any library is loaded: its pools are sized once.
        env = dict(
            os.environ,
            PYTHONDONTWRITEBYTECODE="1",
            OMP_NUM_THREADS=str(threads),
            OPENBLAS_NUM_THREADS=str(threads),
            MKL_NUM_THREADS=str(threads),
            OMP_WAIT_POLICY="PASSIVE",
        )
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        self.buffer = b""

    def ask(self, request: dict, timeout: float) -> dict:
        """Answer within `timeout` seconds, or Failed and the process is gone."""
        deadline = time.monotonic() + timeout
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise Failed(self.death()) from error
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self.buffer:
                if not ready.select(max(0, deadline - time.monotonic())):
                    self.close()
                    raise Failed(f"{request['do']}: no answer within {timeout:.0f} s")
                chunk = os.read(self.process.stdout.fileno(), 1 << 20)
                if not chunk:
                    raise Failed(f"{request['do']}: {self.death()}")
                self.buffer += chunk
        line, self.buffer = self.buffer.split(b"\n", 1)
        result = json.loads(line)
        if "error" in result:
            raise Failed(f"{request['do']}: {result['error']}")
        return result

    def build(self, options: dict, timeout: float) -> dict:
        """Build facts; `options`: data, set, queries, cache, threads, k."""
        request = dict(options, do="build", engine=self.engine, params=self.params)
        return self.ask(request, timeout)

    def measure(
        self, setting: dict, mode: str, half: str, k: int, timeout: float = 300, **more
    ) -> dict:
        """qps, recall, p50_us, p99_us, cpu_per_wall of one setting."""
        return self.ask(
            dict(more, do="measure", setting=setting, mode=mode, half=half, k=k), timeout
        )

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
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe.close()
            except OSError:  # a request was still buffered
                pass


if __name__ == "__main__":
    serve()
