"""Recall against speed: our index and its peers, timed in turn in one run.

Every build lives in a worker process (worker.py). A coarse sweep over the even
query rows finds each engine's Pareto candidates; then repetitions alternate
between the engines over the odd rows, so that a noisy minute hits all alike.

    bench/curves --set wordnet-384 --engines ours,scann,hnswlib
    bench/curves --set sift-128 --build ours=IVF2048,ScaNN,RFlat --engines ours
    bench/curves --set wordnet-384 --redraw

Out, in --out: curves-<set>.jsonl (one point a line), curves-<set>.builds.jsonl,
curves-<set>.coarse.jsonl, curves-<set>.md, curves-<set>-<mode>.png and .svg.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from bench import plots, points, speed_tables, timing
from bench.datasets import Dataset, load
from bench.engines import ENGINES, python_for
from bench.folders import Unavailable
from bench.ground_truth import filter_mask, ground_truth
from bench.options import (
    IndexOptions,
    OptionError,
    RepetitionOptions,
    SeedOptions,
    option,
    words,
)
from bench.points import BuildFacts, BuildLine, CoarsePoint, Measurement, Parameters, Point, RunFacts
from bench.tables import cpu_model, failure_table, parameters, publish, today
from bench.worker import Attempts, Half, Request, Task, Worker, task_for

CANDIDATE_RECALL = 0.7  # nobody asks for less
SLACK = 0.1  # of qps: how near to the front a coarse point must be
GAIN = 0.001  # of recall: less does not pay for a wider setting
ENOUGH = 0.998  # recall; the tables end at .99
CPU_LIMIT = 1.2  # more CPU than wall time: the engine used a second thread
MODES = {"single": "one query a call", "batch": "all queries in one call"}
ANY_TIME = 1e9  # seconds


@dataclass(frozen=True)
class Options(SeedOptions, RepetitionOptions, IndexOptions):
    engines: tuple[str, ...] = option(tuple(ENGINES), "engines with commas", parse=words)
    build: tuple[str, ...] = option(
        (),
        "instead of an engine's default builds; repeatable; JSON or a factory string",
        repeated=True,
        metavar="ENGINE=PARAMETERS",
    )
    metric: str = option("", "instead of the set's own", choices=("", "ip", "l2", "cosine"))
    share: float = option(1.0, "share of the rows that a filter passes, for engines that can", flag="--pass")
    mode: tuple[str, ...] = option(tuple(MODES), "one query a call, all in one", parse=words)
    clock: str = option("wall", "what QPS counts; cpu where other programs compute too", choices=("wall", "cpu"))
    points: int = option(12, "most settings an engine and mode", low=1)
    coarse: int = option(400, "queries a setting in the coarse sweep", low=1)
    coarse_seconds: float = option(0.5, "most time a single-query setting", low=0)
    build_timeout: float = option(1800.0, "seconds", low=0)
    timeout: float = option(120.0, "seconds of one measurement", low=0)
    redraw: bool = option(False, "tables and plots of an earlier run")

    def __post_init__(self) -> None:
        unknown = (set(self.engines) - set(ENGINES)) | (set(self.mode) - set(MODES))
        if unknown:
            raise OptionError(
                f"unknown engine or mode {', '.join(sorted(unknown))} "
                f"(engines: {', '.join(ENGINES)}; modes: {', '.join(MODES)})"
            )
        if not 0 < self.share <= 1:
            raise OptionError(f"--pass {self.share:g} (allowed: above 0, to 1)")
        for text in self.build:
            chosen_build(text)

    def able_engines(self) -> list[str]:
        """Those that can do what is asked for."""
        return [name for name in self.engines if self.share >= 1 or ENGINES[name].filters]


@dataclass(frozen=True)
class ChosenBuild:
    """What one --build asks for."""

    engine: str
    params: Parameters


def chosen_build(text: str) -> ChosenBuild:
    """ENGINE=JSON or ENGINE=FACTORY."""
    name, _, value = text.partition("=")
    if name not in ENGINES or not value:
        raise OptionError(f"--build {text}: expected ENGINE=PARAMETERS, engines: {', '.join(ENGINES)}")
    if not value.startswith("{"):
        return ChosenBuild(name, {"factory": value})
    try:
        return ChosenBuild(name, json.loads(value))
    except json.JSONDecodeError as wrong:
        raise OptionError(f"--build {text}: {wrong}") from None


def planned(data: Dataset, options: Options) -> dict[str, list[Parameters]]:
    """Builds of every engine: those of --build, and the defaults of the rest."""
    chosen = [chosen_build(text) for text in options.build]
    plans = {}
    for name in options.able_engines():
        own = [build.params for build in chosen if build.engine == name]
        plans[name] = own or ENGINES[name].builds_of(data.base, data.metric)
    return plans


@dataclass
class Build(Attempts):
    """A worker, what it built, and how it failed if it did."""

    engine: str
    params: Parameters
    options: Options
    worker: Worker
    facts: BuildFacts | None = None
    settings: list[Parameters] = field(default_factory=list)
    failure: str = ""

    def label(self) -> str:
        return f"{self.engine} {parameters(self.params)}"

    def start(self, task: Task) -> None:
        """Build, keep the facts."""
        built = self.attempt(lambda: self.worker.build(task, self.options.build_timeout))
        if built:
            self.facts, self.settings = built.facts, built.settings

    def measure(
        self, setting: Parameters, mode: str, half: Half, limit: int = 0, seconds: float = ANY_TIME
    ) -> Measurement | None:
        """One measurement."""
        request = Request(setting, mode, half, self.options.k, limit, seconds)
        return self.attempt(lambda: self.worker.measure(request, self.options.timeout))

    def line(self, run: RunFacts) -> BuildLine:
        return BuildLine(self.engine, self.params, run, self.facts, self.failure or None)


@dataclass
class Candidate:
    """One setting of one build, timed again in every repetition."""

    build: Build
    setting: Parameters
    mode: str
    runs: list[Measurement] = field(default_factory=list)

    def point(self, run: RunFacts) -> Point:
        """Medians over the repetitions."""

        def middle(name: str) -> float:
            values: list[float] = [getattr(measured, name) for measured in self.runs]
            return statistics.median(values)

        speeds = [speed(measured, run.clock) for measured in self.runs]
        single = self.runs[0].p50_us is not None
        assert self.build.facts is not None  # it was measured
        return Point(
            engine=self.build.engine,
            mode=self.mode,
            build=self.build.params,
            setting=self.setting,
            recall=self.runs[0].recall,
            qps=statistics.median(speeds),
            qps_best=max(speeds),
            qps_worst=min(speeds),
            qps_wall=middle("qps"),
            qps_cpu=middle("qps_cpu"),
            cpu_per_wall=middle("cpu_per_wall"),
            p50_us=middle("p50_us") if single else None,
            p99_us=middle("p99_us") if single else None,
            repetitions=len(self.runs),
            queries=self.runs[0].timed,
            facts=self.build.facts,
            run=run,
        )


def speed(measured: Measurement, clock: str) -> float:
    """Queries per second by the chosen clock."""
    return measured.qps_cpu if clock == "cpu" else measured.qps


@dataclass
class Pruning:
    """Which settings of a sweep cannot gain any more.

    Settings come grouped by their first parameter (lists probed, or the width
    of a graph search), each group by rising cost. What can only cost more is
    left out: the rest of a group whose recall stands still, and all groups
    after one that found everything. Where the first parameter falls, another
    such sweep begins.
    """

    group: float | None = None
    last: float = 0.0
    flat: bool = False
    found_all: bool = False

    def wants(self, setting: Parameters) -> bool:
        """Whether this setting, the next one, is worth a measurement."""
        first = float(next(iter(setting.values())))
        if first != self.group:
            restarts = self.group is not None and first < self.group
            self.found_all = not restarts and (self.found_all or self.last >= ENOUGH)
            self.group, self.last, self.flat = first, 0.0, False
        return not (self.flat or self.found_all)

    def saw(self, recall: float) -> None:
        """The recall of the setting that was measured."""
        self.flat, self.last = recall < self.last + GAIN, recall


def sweep(build: Build, options: Options) -> list[CoarsePoint]:
    """Coarse points of the settings of a build, on the tuning half."""
    found: list[CoarsePoint] = []
    for mode in options.mode:
        pruning = Pruning()
        for setting in build.settings:
            if not pruning.wants(setting):
                continue
            run = build.measure(setting, mode, "tune", options.coarse, options.coarse_seconds)
            if run is None:
                return found
            pruning.saw(run.recall)
            qps = speed(run, options.clock)
            found.append(CoarsePoint(build.engine, mode, build.params, setting, run.recall, qps))
    return found


def candidates(builds: Sequence[Build], coarse: Sequence[CoarsePoint], options: Options) -> list[Candidate]:
    """The Pareto candidates of one engine, over all its builds."""
    # A build that crashed takes no place on the front from one that works.
    alive = [build for build in builds if not build.failure]
    chosen = []
    for mode in options.mode:
        good = [p for p in coarse if p.mode == mode and p.recall >= CANDIDATE_RECALL]
        good = [p for p in good if any(build.params == p.build for build in alive)]
        for point in points.thin(points.front(good, SLACK), options.points):
            build = next(build for build in alive if build.params == point.build)
            chosen.append(Candidate(build, point.setting, mode))
    return chosen


@dataclass
class Run:
    """All engines on one set."""

    options: Options
    facts: RunFacts
    task: Task
    stem: Path
    log: IO[str]
    builds: list[Build] = field(default_factory=list)
    groups: list[list[Candidate]] = field(default_factory=list)

    def try_engine(self, engine: str, plan: Sequence[Parameters]) -> None:
        """Its builds and their coarse sweeps; what has no candidate ends."""
        options, builds, coarse = self.options, [], []
        for params in plan:
            worker = Worker(engine, params, options.threads, self.log, python_for(engine))
            build = Build(engine, params, options, worker)
            builds.append(build)
            self.builds.append(build)
            build.start(self.task)
            coarse += sweep(build, options)
            if build.facts:
                print(f"  {engine} {parameters(params)}: {build.facts.build_seconds:.1f} s", flush=True)
        points.append(Path(f"{self.stem}.coarse.jsonl"), map(points.as_line, coarse))
        self.groups.append(candidates(builds, coarse, options))
        used = {id(candidate.build) for candidate in self.groups[-1]}
        for build in builds:
            if id(build) not in used:
                build.worker.close()  # its memory is for the others

    def alternate(self) -> None:
        """Repetitions over the reported half, engines in turn."""
        for repetition in range(self.options.repetitions):
            took = timing.timed(self._repetition)
            print(f"  repetition {repetition + 1}: {took.seconds:.0f} s", flush=True)

    def _repetition(self) -> None:
        for candidate in timing.alternated(self.groups):
            run = candidate.build.measure(candidate.setting, candidate.mode, "report")
            if run:
                candidate.runs.append(run)

    def write(self) -> None:
        """Points and builds."""
        measured = [c.point(self.facts) for group in self.groups for c in group if c.runs]
        points.append(Path(f"{self.stem}.jsonl"), map(points.as_line, measured))
        lines = [points.as_line(build.line(self.facts)) for build in self.builds]
        points.append(Path(f"{self.stem}.builds.jsonl"), lines)


def result_stem(name: str, options: Options) -> Path:
    """Beginning of the names of a set's result files."""
    k = "" if options.k == 10 else f"-k{options.k}"
    share = "" if options.share == 1 else f"-pass{options.share:g}"
    return options.out / f"curves-{name}{k}{share}"


def run_set(name: str, options: Options) -> None:
    """All engines on one set; writes the result files."""
    stem = result_stem(name, options)
    stem.parent.mkdir(parents=True, exist_ok=True)
    for kind in ("jsonl", "builds.jsonl", "coarse.jsonl"):
        Path(f"{stem}.{kind}").unlink(missing_ok=True)
    data = load(options.data, name, rows=options.rows, queries=options.queries, metric=options.metric)
    ground_truth(data, options.cache, filter_mask(len(data.base), options.share, options.seed))
    plans = planned(data, options)
    facts = RunFacts(name, options.share, data.metric, options.k, cpu_model(), options.clock, today())
    task = task_for(name, options, metric=options.metric, share=options.share, seed=options.seed)
    del data
    with open(f"{stem}.log", "w", encoding="utf-8") as log:
        run = Run(options, facts, task, stem, log)
        try:
            for engine, plan in plans.items():
                run.try_engine(engine, plan)
            run.alternate()
            run.write()
        finally:
            for build in run.builds:
                build.worker.close()
    draw(stem)


def head_of(facts: RunFacts) -> str:
    """Title of a report."""
    title = f"{facts.set}, recall@{facts.k}, {facts.metric}"
    return title if facts.share >= 1 else f"{title}, a filter passes {100 * facts.share:g} % of the rows"


def draw(stem: Path) -> None:
    """Tables and plots of the lines beside `stem`."""
    if not Path(f"{stem}.jsonl").is_file():
        raise Unavailable(f"{stem}.jsonl is missing: no earlier run to draw")
    measured = [points.point_of(line) for line in points.read(Path(f"{stem}.jsonl"))]
    builds = [points.build_of(line) for line in points.read(Path(f"{stem}.builds.jsonl"))]
    facts = (measured or builds)[0].run
    modes = sorted({point.mode for point in measured}, reverse=True)
    parts = [
        f"One search thread. QPS by {facts.clock} time:\n"
        "median of repetitions that alternate between the engines, interpolated on log QPS\n"
        "along each engine's Pareto front; parameters chosen on the even query rows, reported on\n"
        "the odd ones. '-': recall not reached."
    ]
    parts += [speed_tables.speed_tables(measured, mode) for mode in modes]
    parts.append(speed_tables.build_table(builds))
    failures = [(line.engine, line.build, line.reason) for line in builds if line.reason]
    if failures:
        parts.append(failure_table(failures))
    threaded = sorted({point.engine for point in measured if point.cpu_per_wall > CPU_LIMIT})
    if threaded:
        parts.append(
            f"Used more than one thread in search (CPU time above {CPU_LIMIT} of wall time): {', '.join(threaded)}"
        )
    publish(Path(f"{stem}.md"), head_of(facts), parts, f"{facts.cpu}, {facts.date}.")
    if not plots.available():
        return
    for mode in modes:
        titles = plots.Titles(f"{facts.set}: {MODES[mode]}", f"recall@{facts.k}", "queries per second, one thread")
        groups = points.by_engine(point for point in measured if point.mode == mode)
        plots.speed_curves(groups, titles, Path(f"{stem}-{mode}"))


def run(options: Options) -> None:
    """All sets; or only the drawings of an earlier run."""
    for name in options.sets:
        if options.redraw:
            draw(result_stem(name, options))
            continue
        print(name, flush=True)
        run_set(name, options)
