"""VectorDBBench's comparison of indexes: in process, and inside a Milvus server.

bench/vectordbbench makes the environments and calls this. Out, in --out:
vectordbbench-<set>.jsonl (one measurement a line), .md (tables), -<where>-<n>.png
and .svg (plots), and VectorDBBench's own result files and logs below runs/.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench import exact_scans, plots, points
from bench.datasets import Dataset, Ids, load_chosen
from bench.folders import RESULTS, TEST_DATA, Unavailable
from bench.ground_truth import ground_truth
from bench.options import (
    NeighbourOptions,
    OptionError,
    OutOptions,
    SetOptions,
    ThreadOptions,
    another_default,
    integers,
    option,
    words,
)
from bench.points import Parameters
from bench.tables import cpu_model, failure_table, megabytes, parameters, table, whole
from bench.vdbbench import dataset, runs
from bench.vdbbench.rows import Row, rows

SMOKE_ROWS = {"client": ("ours", "IVF_FLAT"), "server": ("ours", "SCANN")}
PLACES = {"client": "in process", "server": "inside Milvus 2.3.5"}
SHORT_PLACES = {"client": "in process", "server": "Milvus 2.3.5"}  # in the titles of plots


@dataclass(frozen=True)
class Options(NeighbourOptions, ThreadOptions, OutOptions, SetOptions):
    out: Path = another_default(OutOptions, "out", RESULTS / "vectordbbench")
    queries: int = another_default(SetOptions, "queries", 1000)
    k: int = another_default(NeighbourOptions, "k", 100)
    only: tuple[str, ...] = option(tuple(PLACES), "client (in process), server (Milvus)", parse=words)
    indexes: str = option("", 'some rows of the table, such as "ours;SCANN;HNSW"')
    clients: tuple[int, ...] = option((1, 4), "numbers of client processes", parse=integers)
    seconds: int = option(10, "for each number of clients", low=1)
    settings: int = option(0, "1: the middle search setting only", low=0, high=1)
    removed: float = option(0.5, "share of rows that the filter removes")
    timeout: float = option(1800.0, "seconds of one task", low=1)
    smoke: bool = option(False, "2,000 words, some minutes: does all of it work?")
    redraw: bool = option(False, "tables and plots of an earlier run")
    client_python: str = option(sys.executable, "", hidden=True)
    server_python: str = option("", "", hidden=True)
    milvus_environment: str = option("", "", hidden=True)

    def __post_init__(self) -> None:
        unknown = set(self.only) - set(PLACES)
        if unknown or not self.only:
            raise OptionError(f"--only {','.join(self.only)} (allowed: client, server)")
        if not 0 < self.removed < 1:
            raise OptionError(f"--removed {self.removed:g} (allowed: between 0 and 1)")
        if not self.clients or min(self.clients) < 1:
            raise OptionError(f"--clients {','.join(map(str, self.clients))} (allowed: 1 and more)")

        known = {row.name for where in PLACES for row in rows(where, 10_000, 64, 10)}
        wrong = set(filter(None, self.indexes.split(";"))) - known
        if wrong:
            raise OptionError(
                f"--indexes: {', '.join(sorted(wrong))} (allowed, with semicolons: {', '.join(sorted(known))})"
            )

    def small(self) -> Options:
        """Those of --smoke."""
        return replace(
            self,
            data=TEST_DATA,
            sets=("glove-50-frequent",),
            rows=2000,
            queries=100,
            k=10,
            seconds=4,  # on a busy machine a client's first query takes 2
            clients=(2,),
            settings=1,
        )

    def wants(self, where: str, row: Row) -> bool:
        """Whether a row of the table is to be measured."""
        if self.smoke and row.name not in SMOKE_ROWS[where]:
            return False
        return not self.indexes or row.name in self.indexes.split(";")


@dataclass(frozen=True)
class ServedPoint:
    """One search setting of one index, measured by VectorDBBench."""

    engine: str
    where: str
    build: Parameters
    setting: Parameters
    removed: float
    recall: float
    clients: list[int]
    qps_of_clients: list[float]
    p99_ms: float
    insert_seconds: float
    build_seconds: float
    k: int
    set: str
    rows: int
    d: int
    metric: str
    cpu: str
    files: dict[str, str]
    memory_bytes: int = 0
    memory_kind: str = ""
    library: str = ""
    exact_rows: int = 0  # compared one by one, whatever the index


@dataclass(frozen=True)
class Failure:
    """An index that could not be measured, and why."""

    engine: str
    build: Parameters
    reason: str


@dataclass(frozen=True)
class CurvePoint:
    """A point of a plot: the queries per second of one number of clients."""

    recall: float
    qps: float


@dataclass(frozen=True)
class Vehicle:
    """Where VectorDBBench runs a row, and how it gets there."""

    where: str
    client: str  # of runs.Task
    python: str
    folder: Path
    db: dict[str, Any]


@dataclass
class Comparison:
    """One set; measures row by row, keeps points and failures."""

    options: Options
    data: Dataset
    truth: Ids
    folder: Path
    facts: dict[str, Any]
    points: list[ServedPoint] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, options: Options) -> Comparison:
        """Writes the set as VectorDBBench reads it."""
        data = load_chosen(name, options)
        truth = ground_truth(data, options.cache)
        if options.k > truth.shape[1]:
            raise Unavailable(f"--k {options.k}: {name} has {truth.shape[1]} rows")
        folder = (options.out / "runs" / f"{data.name}-{len(data.base)}").resolve()  # tasks run elsewhere
        return cls(options, data, truth, folder, dataset.write(folder / "data", data, truth, [options.removed]))

    def run(self) -> None:
        n, d = self.data.base.shape
        for where in self.options.only:
            for row in rows(where, n, d, self.options.k):
                if self.options.wants(where, row):
                    self._try(where, row)

    def _try(self, where: str, row: Row) -> None:
        print(f"{where}: {row.name}", flush=True)
        try:
            if where == "client":
                self._in_process(row)
            else:
                self._in_server(row)
        except (runs.Failed, OSError, RuntimeError) as reason:  # the next row may do better
            print(f"  FAILED {reason}", flush=True)
            self.failures.append(Failure(f"{where}: {row.name}", row.build, str(reason)))

    def _in_process(self, row: Row) -> None:
        folder = self.folder / "client" / slug(row.name)
        vehicle = Vehicle("client", "faiss_ext", self.options.client_python, folder, {"path": str(folder)})
        measured = self._measure(row, vehicle)
        size = (folder / "collection" / "index").stat().st_size
        exact = exact_scans.scanned(row.index, row.ours, [len(self.data.base)], in_server=False)
        self._keep(measured, size, "index file", "faiss_ext" if row.ours else "faiss-cpu", exact)

    def _in_server(self, row: Row) -> None:
        from bench.vdbbench.server import MilvusRow  # needs the package faiss_ext

        folder = self.folder / "server" / slug(row.name)
        python, environment = self.options.server_python, self.options.milvus_environment
        with MilvusRow(folder / "milvus", row.ours, environment or None, python) as milvus:
            measured = self._measure(row, Vehicle("server", "milvus", python, folder, {"uri": milvus.uri}))
            library, loaded = milvus.served_by(row.index), milvus.loaded()
            exact = exact_scans.scanned(row.index, row.ours, loaded.segments, in_server=True)
            self._keep(measured, loaded.memory_bytes, loaded.memory_kind, library, exact)

    def _measure(self, row: Row, vehicle: Vehicle) -> list[ServedPoint]:
        """All settings of a row on one load, and the middle one with a filter."""
        middle = row.settings[len(row.settings) // 2]
        settings = [middle] if self.options.settings == 1 else row.settings
        measured: list[ServedPoint] = []
        first: runs.Outcome | None = None  # the one that has inserted and built
        for number, (setting, removed) in enumerate([*((s, 0.0) for s in settings), (middle, self.options.removed)]):
            task = self._task(row, vehicle, number, setting, removed)
            got = runs.run(vehicle.python, task, vehicle.folder / task.label, self.options.timeout)
            first = first or got
            print(f"  {said(setting, removed, got)}", flush=True)
            measured.append(self._point(row, vehicle, task, got, first))
        return measured

    def _task(self, row: Row, vehicle: Vehicle, number: int, setting: Parameters, removed: float) -> runs.Task:
        options = self.options
        return runs.Task(
            label=f"{slug(row.name)}-{number}",
            client=vehicle.client,
            index=row.index,
            build=row.build,
            search=setting,
            db=vehicle.db,
            data={key: self.facts[key] for key in ("name", "dir", "size", "dim", "metric_type")},
            k=options.k,
            clients=list(options.clients),
            seconds=options.seconds,
            load=number == 0,
            removed=removed,
            threads=options.threads,
        )

    def _point(
        self, row: Row, vehicle: Vehicle, task: runs.Task, got: runs.Outcome, first: runs.Outcome
    ) -> ServedPoint:
        return ServedPoint(
            engine=row.name,
            where=vehicle.where,
            build=row.build,
            setting=task.search,
            removed=task.removed,
            recall=got.recall,
            clients=task.clients,
            qps_of_clients=got.qps,
            p99_ms=got.p99_ms,
            insert_seconds=first.insert_seconds,
            build_seconds=first.build_seconds,
            k=task.k,
            set=self.data.name,
            rows=len(self.data.base),
            d=self.data.base.shape[1],
            metric=self.data.metric,
            cpu=cpu_model(),
            files=got.files,
        )

    def _keep(self, measured: Sequence[ServedPoint], memory: int, kind: str, library: str, exact: int) -> None:
        facts: dict[str, Any] = dict(memory_bytes=memory, memory_kind=kind, library=library, exact_rows=exact)
        self.points += [replace(point, **facts) for point in measured]


def slug(name: str) -> str:
    """A name for folders."""
    return "".join(c if c.isalnum() else "-" for c in name.lower()).replace("--", "-")


def said(setting: Parameters, removed: float, got: runs.Outcome) -> str:
    """A measurement in one line."""
    filtered = f", filter removes {removed:.0%}" if removed else ""
    qps = ", ".join(whole(value) for value in got.qps)
    return f"{parameters(setting)}{filtered}: recall {got.recall:.4f}, QPS {qps}, p99 {got.p99_ms:.2f} ms"


def clients_of(count: int) -> str:
    """'1 client', '4 clients'."""
    return f"{count} client{'s' * (count > 1)}"


def place_table(chosen: Sequence[ServedPoint]) -> str:
    """Markdown of one vehicle, all with the same filter."""
    first = chosen[0]
    filtered = f", filter removes {round(first.removed * 100)} %" if first.removed else ""
    head = [f"{PLACES[first.where]}{filtered}", "build", "search", f"recall@{first.k}"]
    head += [f"QPS, {clients_of(count)}" for count in first.clients]
    head += ["p99 ms", "insert s", "build s", "MB", "which are", "answered by", "compared one by one"]
    cells = [
        [
            p.engine,
            parameters(p.build),
            parameters(p.setting),
            f"{p.recall:.4f}",
            *map(whole, p.qps_of_clients),
            f"{p.p99_ms:.2f}",
            f"{p.insert_seconds:.1f}",
            f"{p.build_seconds:.1f}",
            megabytes(p.memory_bytes),
            p.memory_kind,
            p.library,
            exact_scans.said(p.exact_rows, p.rows),
        ]
        for p in chosen
    ]
    return table(head, cells)


def tables(measured: Sequence[ServedPoint], failures: Sequence[Failure]) -> str:
    """Markdown: one table a vehicle, without and with the filter, then failures."""
    parts = []
    for where in PLACES:
        for filtered in (False, True):
            chosen = [p for p in measured if p.where == where and bool(p.removed) == filtered]
            if chosen:
                parts.append(place_table(chosen))
    if failures:
        parts.append(failure_table([(f.engine, f.build, f.reason) for f in failures]))
    return "\n\n".join(parts) + "\n"


def draw(stem: Path) -> list[Path]:
    """Tables and plots of a result file."""
    if not Path(f"{stem}.jsonl").is_file():
        raise Unavailable(f"{stem}.jsonl is missing: no earlier run to draw")
    lines = points.read(Path(f"{stem}.jsonl"))
    failures = [Failure(**line) for line in lines if "reason" in line]
    measured = [ServedPoint(**line) for line in lines if "reason" not in line]
    Path(f"{stem}.md").write_text(tables(measured, failures), encoding="utf-8")
    written = [Path(f"{stem}.jsonl"), Path(f"{stem}.md")]
    if not plots.available():
        return written
    for where, place in SHORT_PLACES.items():
        chosen = [p for p in measured if p.where == where and not p.removed]
        for i, count in enumerate(chosen[0].clients if chosen else []):
            groups = {
                name: [CurvePoint(p.recall, p.qps_of_clients[i]) for p in group]
                for name, group in points.by_engine(chosen).items()
            }
            title = f"{chosen[0].set}: VectorDBBench, {place}, {clients_of(count)}"
            titles = plots.Titles(title, f"recall@{chosen[0].k}", "queries per second")
            written += plots.speed_curves(groups, titles, Path(f"{stem}-{where}-{count}"), low=0.5)
    return written


def run_set(name: str, options: Options) -> bool:
    """Measures or draws one set; whether all went well."""
    stem = options.out / f"vectordbbench-{name}{'-smoke' if options.smoke else ''}"
    failed = False
    if not options.redraw:
        comparison = Comparison.of(name, options)
        comparison.run()
        failed = bool(comparison.failures)
        points.write(Path(f"{stem}.jsonl"), map(points.as_line, [*comparison.points, *comparison.failures]))
    for path in draw(stem):
        print(path)
    print(Path(f"{stem}.md").read_text(encoding="utf-8"))
    return not failed


def run(options: Options) -> int:
    """All sets; 1 if something failed."""
    chosen = options.small() if options.smoke else options
    return 0 if all([run_set(name, chosen) for name in chosen.sets]) else 1
