"""One task in a process group of its own, watched, and its result file judged.

VectorDBBench ends with code 0 when a case fails, can wait for ever when one of
its processes dies, swallows failures after the first number of clients, and
counts failing queries nowhere. So: a time limit, then its JSON.

In:  a task (`Task`), the interpreter of VectorDBBench's environment.
Out: `Outcome`, or `Failed` with a reason and the place of the log.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from bench.folders import REPOSITORY

LABELS = {"x": "failed", "?": "ran into its time limit"}  # of VectorDBBench
# Lines of its log that give a reason; the last one counts.
REASON = re.compile(r"(?:failed to run, reason=|reason = |VectorDB (?:load|optimize).*error: |search error: )(.+)")
QUERY_ERROR = re.compile(r"search_embedding error: (.+)")


class Failed(Exception):
    """A task without a result that can be trusted, and why."""


@dataclass
class Task:
    """What VectorDBBench is to do; parameters by Milvus' names."""

    label: str
    client: str  # "milvus" (its stock client) or "faiss_ext" (ours)
    index: str
    build: dict[str, Any]
    search: dict[str, Any]
    db: dict[str, Any]  # {"uri": ...} or {"path": ...}
    data: dict[str, Any]  # of dataset.write
    k: int
    clients: list[int]
    seconds: int  # for each number of clients
    load: bool  # insert and build first; else what is there is searched
    removed: float = 0.0  # share of rows that a filter takes away
    threads: int = 0
    batch: int = 5000

    def written(self) -> dict[str, Any]:
        stages = ["drop_old", "load"] if self.load else []
        return {**asdict(self), "stages": [*stages, "search_serial", "search_concurrent"]}


@dataclass
class Outcome:
    """The figures of one task."""

    recall: float
    qps: list[float]  # for each number of clients
    p99_ms: float  # of the first number of clients; the serial pass rounds to 0.1 ms
    insert_seconds: float
    build_seconds: float
    files: dict[str, str] = field(default_factory=dict)


def run(python: Path | str, task: Task, folder: Path, timeout: float) -> Outcome:
    """Runs `task` with the interpreter `python`; all files go to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "results"
    for old in results.glob("*/result_*.json"):
        old.unlink()
    description = folder / "task.json"
    description.write_text(json.dumps(task.written(), indent=1), encoding="utf-8")
    log = folder / "vectordbbench.log"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "RESULTS_LOCAL_DIR": str(results),
        "CONFIG_LOCAL_DIR": str(folder),
        "DATASET_LOCAL_DIR": str(folder),
        "LOG_FILE": str(folder / "vectordbbench.debug.log"),
        "NUM_PER_BATCH": str(task.batch),
        "OMP_NUM_THREADS": "1",
    }
    command = [str(python), "-m", "bench.vdbbench.task", str(description)]
    with open(log, "wb") as out:
        ended = _watched(command, out, environment, folder, timeout)
    text = log.read_text(encoding="utf-8", errors="replace")
    if ended is None:
        raise Failed(f"no end within {timeout:g} s{_last(text)}; log: {log}")
    if ended != 0:
        raise Failed(f"exit code {ended}{_last(text)}; log: {log}")
    files = sorted(results.glob("*/result_*.json"))
    if len(files) != 1:
        raise Failed(f"{len(files)} result files{_last(text)}; log: {log}")
    try:
        outcome = judged(json.loads(files[0].read_text(encoding="utf-8")), task, text)
    except Failed as reason:
        raise Failed(f"{reason}; log: {log}") from None
    outcome.files = {"result": str(files[0]), "log": str(log)}
    return outcome


def _watched(
    command: list[str], out: IO[bytes], environment: dict[str, str], folder: Path, timeout: float
) -> int | None:
    """Exit code, or None after the time limit; no process of it is left."""
    process = subprocess.Popen(
        command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment, cwd=folder, start_new_session=True
    )
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
    finally:
        # Also when all went well: a worker that hangs would hold the index.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def _last(text: str) -> str:
    """The last reason in a log, or its last line."""
    found = REASON.findall(text)
    line = found[-1] if found else next((line for line in reversed(text.splitlines()) if line.strip()), "")
    return f" ({line.strip()[:300]})" if line else ""


def judged(result: dict[str, Any], task: Task, log: str = "") -> Outcome:
    """The figures of a result file; Failed unless every one of them was measured."""
    cases = result.get("results", [])
    if len(cases) != 1:
        raise Failed(f"{len(cases)} cases in the result file; 1 was asked for")
    label, metrics = cases[0].get("label"), cases[0].get("metrics", {})
    if label != ":)":
        raise Failed(f"case {LABELS.get(label, 'has the unknown label')} (label {label!r}){_last(log)}")
    if metrics.get("conc_num_list") != task.clients:
        raise Failed(f"clients {metrics.get('conc_num_list')} were measured, {task.clients} asked for{_last(log)}")
    errors = QUERY_ERROR.findall(log)
    if errors:
        raise Failed(f"{len(errors)} queries failed, the first with: {errors[0].strip()[:300]}")
    p99 = (metrics.get("conc_latency_p99_list") or [0])[0]
    wanted = {"recall": metrics.get("recall"), "p99": p99}
    wanted.update({f"QPS of {n}": qps for n, qps in zip(task.clients, metrics.get("conc_qps_list", []))})
    if task.load:
        wanted["optimize_duration"] = metrics.get("optimize_duration")
    missing = [name for name, value in wanted.items() if not value or value <= 0]
    if missing:
        raise Failed(f"nothing was measured for {', '.join(missing)}{_last(log)}")
    if metrics["recall"] > 1:
        raise Failed(f"recall {metrics['recall']} above 1")
    return Outcome(
        recall=metrics["recall"],
        qps=metrics["conc_qps_list"],
        p99_ms=p99 * 1000,
        insert_seconds=metrics.get("insert_duration", 0.0),
        build_seconds=metrics.get("optimize_duration", 0.0),
    )
