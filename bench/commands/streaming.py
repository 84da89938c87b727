"""Recall and time per query while rows come and go: our index with and without maintenance, its peers.

A runbook says which rows are inserted, deleted and replaced, and when all queries
are searched: a file in the format of big-ann-benchmarks' streaming track
(bench/runbooks.py), or a scenario made for the set. Indexes are trained on the
rows of the first insert. At each search recall is that among the rows that are
there, in settings fixed at the start; times are of one query a call on one
thread, of each query the best of repetitions that alternate between the indexes.

    ours             without maintenance
    ours-maintained  maintain() after each step that changes rows, timed by itself
    ours-auto        auto_maintain=1
    rebuilt          ours, made anew at each search of the rows that are there
    scann, faiss-pq, faiss-ivfflat, hnswlib, usearch     where they are installed

    bench/streaming --set glove-50 --scenario clustered,growth
    bench/streaming --set glove-50-frequent --scenario clustered --order given
    bench/streaming --set sift-128 --runbook runbook.yaml --engines ours,ours-maintained,rebuilt

The words of glove-50-frequent are in order of frequency: the second inserts the rare ones last.

Out, in --out: streaming-<set>-<scenario>.md, .png, .svg; .jsonl, .changes.jsonl,
.indexes.jsonl: each search, change, index.
"""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from bench import plots, points, stream_points, timing
from bench.datasets import Dataset, copied, load_chosen
from bench.engines.graphs import Graph
from bench.engines.ours import Ours
from bench.engines.streaming import STREAMING, Room
from bench.folders import Unavailable
from bench.options import (
    IndexOptions,
    OptionError,
    RepetitionOptions,
    SeedOptions,
    another_default,
    integers,
    option,
    words,
)
from bench.points import Parameters
from bench.runbooks import ORDERS, LiveRows, Runbook, most_rows, permutation, read_runbook, write_runbook
from bench.scenarios import SCENARIOS, runbook_of
from bench.stream_points import ChangePoint, IndexLine, Results, SearchPoint, StreamFacts
from bench.stream_worker import BASE, QUERY, TRUTH, Changed, Opened, Searched, Searches, Stream, StreamWorker, true_tags
from bench.tables import cpu_model, parameters, publish, reason_cell, table, today
from bench.worker import Attempts


@dataclass(frozen=True)
class Options(SeedOptions, RepetitionOptions, IndexOptions):
    queries: int = another_default(IndexOptions, "queries", 500)
    repetitions: int = another_default(RepetitionOptions, "repetitions", 3)
    threads: int = option(1, "threads of builds, changes and maintenance", low=1)
    scenario: tuple[str, ...] = option(tuple(SCENARIOS), f"of {', '.join(SCENARIOS)}", parse=words)
    runbook: str = option("", "a runbook instead, .json, .yaml or .yml", metavar="FILE")
    order: str = option("", "of the rows, instead of the scenario's or runbook's", choices=("", *ORDERS))
    steps: int = option(20, "changes of a scenario", low=1)
    write_runbook: str = option("", "write the scenario as a runbook, and run nothing", metavar="FILE")
    engines: tuple[str, ...] = option(tuple(STREAMING), "indexes with commas", parse=words)
    factory: str = option("", "of ours, instead of bench/curves' first for the most rows that are there")
    nprobe: tuple[int, ...] = option((8, 16, 32, 64), "lists probed", parse=integers)
    ef: tuple[int, ...] = option((20, 40, 80, 160), "widths of searches in graphs", parse=integers)
    candidates: int = option(100, "rows that are rescored, at least k", low=1)
    recall: float = option(0.95, "at which times are compared", low=0, high=1)
    redraw: bool = option(False, "table and plot of an earlier run")

    def __post_init__(self) -> None:
        for flag, given, known in (("engines", self.engines, STREAMING), ("scenario", self.scenario, SCENARIOS)):
            if unknown := set(given) - set(known):
                raise OptionError(f"--{flag} {', '.join(sorted(unknown))} (allowed: {', '.join(known)})")
        if min(self.nprobe) < 1:
            raise OptionError(f"--nprobe {min(self.nprobe)} (allowed: 1 and more)")
        for flag, least in (("ef", min(self.ef)), ("candidates", self.candidates)):
            if least < self.k:
                raise OptionError(f"--{flag} {least} (allowed: {self.k}, which is k, and more)")
        if self.write_runbook and (self.runbook or len(self.scenario) * len(self.sets) > 1):
            raise OptionError(f"--write-runbook {self.write_runbook} (allowed: with one --scenario and one --set)")


@dataclass
class Index(Attempts):
    """An index of a run, in a process of its own."""

    engine: str
    params: Parameters
    worker: StreamWorker
    opened: Opened = Opened("", ())
    failure: str = ""

    def label(self) -> str:
        return self.engine


@dataclass
class Run:
    """One runbook on one set."""

    options: Options
    facts: StreamFacts
    data: Dataset  # in the order of the runbook
    folder: Path  # of the files that the processes map
    indexes: list[Index] = field(default_factory=list)
    skipped: list[IndexLine] = field(default_factory=list)
    searches: list[SearchPoint] = field(default_factory=list)
    changes: list[ChangePoint] = field(default_factory=list)

    def start(self, engine: str, stream: Stream, log: IO[str], workers: ExitStack) -> None:
        """An index without rows; one line where its library is not installed."""
        kind = STREAMING[engine]
        if importlib.util.find_spec(kind.module.partition(".")[0]) is None:
            reason = f"{kind.module.partition('.')[0]} is not installed"
            print(f"  {engine}: skipped: {reason}", flush=True)
            self.skipped.append(IndexLine(engine, {}, self.facts, reason=reason))
            return
        options = self.options
        params = kind.usual(self.data.base[: stream.room.rows], self.data.metric)
        if options.factory and issubclass(kind, Ours):
            params = {"factory": options.factory}
        widths = options.ef if issubclass(kind, Graph) else probed(options.nprobe, params)
        index = Index(engine, params, workers.enter_context(StreamWorker(engine, params, options.threads, log)))
        self.indexes.append(index)
        asked = partial(index.worker.open, stream, Searches(options.k, widths, options.candidates))
        index.opened = index.attempt(asked) or index.opened

    def note(self, index: Index, step: int, changed: Changed | None) -> None:
        """What a change has cost."""
        if changed:
            self.changes.append(ChangePoint(index.engine, step, changed, self.facts))

    def follow(self, runbook: Runbook) -> None:
        """All steps."""
        live = LiveRows(len(self.data.base))
        for number, step in enumerate(runbook.steps, 1):
            live.apply(step)
            if step.operation == "search":
                took = timing.timed(partial(self.search, number, live))
                of = f"step {number} of {len(runbook.steps)}"
                print(f"  {of}: {len(live):,} rows, {took.seconds:.0f} s: {self.latest(number)}", flush=True)
                continue
            for index in self.indexes:
                self.note(index, number, index.attempt(partial(index.worker.change, step)))

    def search(self, number: int, live: LiveRows) -> None:
        """Measures all settings of all indexes, in turn."""
        np.save(self.folder / TRUTH, true_tags(self.data, self.options.cache, live))
        imbalances = {}
        for index in self.indexes:
            ready = index.attempt(index.worker.ready)
            if ready:
                self.note(index, number, ready.rebuilt)
                imbalances[index.engine] = ready.imbalance
        groups = [[(index, setting, list[Searched]()) for setting in index.opened.settings] for index in self.indexes]
        for _ in range(self.options.repetitions):
            for index, setting, measured in timing.alternated(groups):
                one = index.attempt(partial(index.worker.search, setting, self.options.k))
                if one:
                    measured.append(one)
        for index, setting, measured in (one for group in groups for one in group):
            if measured:
                micros = np.array([one.micros for one in measured])  # (repetitions, queries)
                point = SearchPoint(
                    index.engine,
                    number,
                    len(live),
                    setting,
                    measured[0].recall,
                    float(micros.min(axis=0).mean()),
                    float(np.median(micros, axis=0).mean()),
                    self.facts,
                    imbalances.get(index.engine),
                )
                self.searches.append(point)

    def latest(self, number: int) -> str:
        """Recall and time of each index in its middle setting, at this step."""
        said = []
        for engine, found in points.by_engine(p for p in self.searches if p.step == number).items():
            middle = found[len(found) // 2]
            said.append(f"{engine} {middle.recall:.3f} {middle.us:.0f} us")
        return ", ".join(said)

    def write(self, stem: Path) -> None:
        """All lines."""
        lines = [
            IndexLine(index.engine, index.params, self.facts, index.opened.version or None, index.failure or None)
            for index in self.indexes
        ]
        points.write(Path(f"{stem}.jsonl"), map(points.as_line, self.searches))
        points.write(Path(f"{stem}.changes.jsonl"), map(points.as_line, self.changes))
        points.write(Path(f"{stem}.indexes.jsonl"), map(points.as_line, [*lines, *self.skipped]))


def probed(widths: tuple[int, ...], params: Parameters) -> tuple[int, ...]:
    """The lists probed; an error for more lists than the factory string names."""
    named = re.match(r"IVF(\d+)", str(params.get("factory", "")))
    lists = int(named[1]) if named else params.get("leaves")
    if lists and max(widths) > lists:
        raise Unavailable(f"--nprobe {max(widths)}: the indexes have {lists} lists (allowed: 1..{lists})")
    return widths


def runbooks(name: str, data: Dataset, options: Options) -> Iterator[Runbook]:
    """Those that are asked for."""
    n = len(data.base)
    if options.runbook:
        found = read_runbook(Path(options.runbook), name, n)
        yield Runbook(found.name, found.steps, options.order or found.order, found.seed)
        return
    for scenario in options.scenario:
        yield runbook_of(scenario, n, options.steps, options.seed, options.order)


def result_stem(name: str, runbook: str, options: Options) -> Path:
    """Beginning of the names of the result files."""
    return options.out / f"streaming-{name}-{runbook}"


@contextmanager
def mapped_files(data: Dataset, out: Path) -> Iterator[Path]:
    """A folder with the rows and the queries, gone afterwards."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="streaming-", dir=out) as folder:
        np.save(Path(folder) / BASE, data.base)
        np.save(Path(folder) / QUERY, data.query)
        yield Path(folder)


def run_runbook(runbook: Runbook, given: Dataset, options: Options) -> None:
    """All indexes; writes the result files."""
    n, d = given.base.shape
    room = Room(most_rows(runbook.steps, n), n)
    rows = copied(given.base, permutation(given, runbook.order, runbook.seed))
    data = Dataset(f"{given.name}-{runbook.order}", rows, given.query, given.metric)
    facts = StreamFacts(
        set=given.name,
        runbook=runbook.name,
        order=runbook.order,
        metric=given.metric,
        k=options.k,
        n=n,
        d=d,
        threads=options.threads,
        queries=len(given.query),
        repetitions=options.repetitions,
        cpu=cpu_model(),
        date=today(),
    )
    stem = result_stem(given.name, runbook.name, options)
    with ExitStack() as stack:
        folder = stack.enter_context(mapped_files(data, options.out))
        log = stack.enter_context(open(f"{stem}.log", "w", encoding="utf-8"))
        run = Run(options, facts, data, folder)
        stream = Stream(str(folder), data.metric, room, options.threads)
        for engine in options.engines:
            run.start(engine, stream, log, stack)
        run.follow(runbook)
    run.write(stem)
    draw(stem, options.recall)


def read_results(stem: Path) -> Results:
    """Of the lines beside `stem`."""
    if not Path(f"{stem}.jsonl").is_file():
        raise Unavailable(f"{stem}.jsonl is missing: no earlier run to draw")

    def lines(end: str) -> list[Parameters]:
        return points.read(Path(f"{stem}.{end}"))

    def facts(line: Parameters) -> StreamFacts:
        return points.of_line(StreamFacts, line)

    return Results(
        [points.of_line(SearchPoint, line, run=facts(line)) for line in lines("jsonl")],
        [
            points.of_line(ChangePoint, line, changed=points.of_line(Changed, line), run=facts(line))
            for line in lines("changes.jsonl")
        ],
        [points.of_line(IndexLine, line, run=facts(line)) for line in lines("indexes.jsonl")],
    )


def draw(stem: Path, recall: float) -> None:
    """Tables and a plot of the lines beside `stem`."""
    results = read_results(stem)
    facts = results.indexes[0].run
    parts = [
        f"{facts.n:,} x {facts.d}, {facts.metric}, rows in the order {facts.order!r}; {facts.queries} queries,\n"
        f"one a call, one thread, of each the best of {facts.repetitions} repetitions in turn with the other indexes.\n"
        f"Threads of builds and changes: {facts.threads}."
    ]
    if results.searches:
        parts.append(stream_points.summary(results, recall))
    rows = [[line.engine, parameters(line.params), line.version] for line in results.indexes if line.version]
    parts.append(table(["index", "build", "version"], rows))
    parts += [f"{line.engine}: {reason_cell(line.reason)}" for line in results.indexes if line.reason]
    for engine in results.engines():
        parts += [f"## {engine}", stream_points.index_table(results, engine)]
    title = f"{facts.set}, {facts.runbook}, recall@{facts.k}"
    publish(Path(f"{stem}.md"), title, parts, f"{facts.cpu}, {facts.date}.")
    if results.searches and plots.available():
        curves = stream_points.drawn(results, recall)
        panels = [
            plots.Panel(f"recall@{facts.k}", curves.recalls, curves.widths),
            plots.Panel("microseconds a query, one thread", curves.times, from_zero=True),
        ]
        plots.over_steps(panels, plots.Titles(f"{facts.set}, {facts.runbook}", "step of the runbook", ""), stem)


def run(options: Options) -> None:
    """All sets and runbooks; or only the drawings of an earlier run."""
    for name in options.sets:
        if options.redraw:
            for runbook in [Path(options.runbook).stem] if options.runbook else options.scenario:
                draw(result_stem(name, runbook, options), options.recall)
            continue
        data = load_chosen(name, options)
        for found in runbooks(name, data, options):
            if options.write_runbook:
                write_runbook(Path(options.write_runbook), found, name, len(data.base))
                print(f"{options.write_runbook}: {len(found.steps)} steps")
            else:
                print(f"{name}, {found.name}", flush=True)
                run_runbook(found, data, options)
