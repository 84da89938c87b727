#!/usr/bin/env python3
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

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import datasets
import engines
import report
from worker import Failed, Worker

CANDIDATE_RECALL = 0.7  # nobody asks for less
SLACK = 0.1  # of qps: how near to the front a coarse point must be
GAIN = 0.001  # of recall: less does not pay for a wider setting
ENOUGH = 0.998  # recall; the tables end at .99
CPU_LIMIT = 1.2  # more CPU than wall time: the engine used a second thread


class Candidate:
    """One setting of one build, timed again in every repetition."""

    def __init__(self, build, setting: dict, mode: str):
        self.build, self.setting, self.mode = build, setting, mode
        self.runs: list[dict] = []

    def point(self, common: dict) -> dict:
        """The line of the result file; latency: median over repetitions, us."""
        middle = {
            key: statistics.median(run[key] for run in self.runs)
            for key in self.runs[0]
            if key not in ("recall", "timed")
        }
        return {
            "engine": self.build.engine,
            "mode": self.mode,
            "build": self.build.params,
            "setting": self.setting,
            "recall": self.runs[0]["recall"],
            "qps": middle.pop("qps"),
            "qps_best": max(run["qps"] for run in self.runs),
            "qps_worst": min(run["qps"] for run in self.runs),
            **middle,
            "repetitions": len(self.runs),
            "queries": self.runs[0]["timed"],
            **self.build.facts,
            **common,
        }


class Build:
    """A worker, what it built, and how it failed if it did."""

    def __init__(self, engine: str, params: dict, options, log):
        self.engine, self.params, self.facts, self.failure = engine, params, {}, ""
        self.settings: list[dict] = []
        self.k, self.timeout = options.k, options.timeout
        self.worker = Worker(engine, params, options.threads, log)

    def attempt(self, what, *args, **kwargs):
        """what(...), or None when the worker failed, now or before."""
        if self.failure:
            return None
        try:
            return what(*args, **kwargs)
        except Failed as reason:
            self.failure = str(reason)
            self.worker.close()
            print(f"  {self.engine} {report.words(self.params)}: FAILED {reason}", flush=True)
            return None

    def start(self, request: dict, build_timeout: float) -> None:
        """Build, keep the facts."""
        facts = self.attempt(self.worker.build, request, build_timeout)
        if facts:
            self.settings = facts.pop("settings")
            self.facts = facts

    def measure(self, setting: dict, mode: str, half: str, **more):
        """One measurement; see Server.measure."""
        return self.attempt(self.worker.measure, setting, mode, half, self.k, self.timeout, **more)


def sweep(build: Build, modes, options) -> list[dict]:
    """Coarse points of the settings of a build, on the tuning half.

    Settings come grouped by their first parameter (lists probed, or the width
    of a graph search), each group by rising cost. What can only cost more is
    left out: the rest of a group whose recall stands still, and all groups
    after one that found everything. Where the first parameter falls, another
    such sweep begins.
    """
    points = []
    for mode in modes:
        group, last, flat, found_all = None, 0.0, False, False
        for setting in build.settings:
            first = next(iter(setting.values()))
            if first != group:
                restarts = group is not None and first < group  # another sweep
                found_all = not restarts and (found_all or last >= ENOUGH)
                group, last, flat = first, 0.0, False
            if flat or found_all:
                continue
            run = build.measure(
                setting, mode, "tune", limit=options.coarse, seconds=options.coarse_seconds
            )
            if run is None:
                return points
            flat, last = run["recall"] < last + GAIN, run["recall"]
            run = clocked(run, options.clock)
            points.append(
                {
                    "engine": build.engine,
                    "mode": mode,
                    "build": build.params,
                    "setting": setting,
                    **run,
                }
            )
    return points


def clocked(run: dict, clock: str) -> dict:
    """The run with qps by the chosen clock; both stay in the record."""
    return {**run, "qps": run["qps_cpu"] if clock == "cpu" else run["qps"], "qps_wall": run["qps"]}


def candidates(builds, points, modes, most: int) -> list[Candidate]:
    """The Pareto candidates of one engine, over all its builds."""
    chosen = []
    for mode in modes:
        good = [p for p in points if p["mode"] == mode and p["recall"] >= CANDIDATE_RECALL]
        # A build that crashed takes no place on the front from one that works.
        alive = [b for b in builds if not b.failure]
        good = [p for p in good if any(b.params == p["build"] for b in alive)]
        for point in report.thin(report.front(good, SLACK), most):
            build = next(b for b in alive if b.params == point["build"])
            chosen.append(Candidate(build, point["setting"], mode))
    return chosen


def in_turn(groups):
    """First of every group, second of every group, ...: engines alternate."""
    for i in range(max((len(g) for g in groups), default=0)):
        for group in groups:
            if i < len(group):
                yield group[i]


def parse_builds(texts, shape, metric: str, names) -> dict[str, list[dict]]:
    """--build engine=JSON or engine=FACTORY, and the defaults of the rest."""
    found: dict[str, list[dict]] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in engines.ENGINES or not value:
            known = ", ".join(engines.ENGINES)
            raise SystemExit(f"--build {text}: expected ENGINE=PARAMETERS, engines: {known}")
        found.setdefault(name, []).append(
            json.loads(value) if value[0] == "{" else {"factory": value}
        )
    return {
        name: found.get(name) or engines.ENGINES[name].builds(*shape, metric) for name in names
    }


def result_stem(name: str, options) -> Path:
    """Beginning of the names of a set's result files."""
    kinds = ("" if options.k == 10 else f"-k{options.k}") + ("" if options.share == 1 else f"-pass{options.share:g}")
    return Path(options.out) / f"curves-{name}{kinds}"


def run_set(name: str, options) -> None:
    """All engines on one set; writes the result files."""
    stem = result_stem(name, options)
    stem.parent.mkdir(parents=True, exist_ok=True)
    for kind in ("jsonl", "builds.jsonl", "coarse.jsonl"):
        Path(f"{stem}.{kind}").unlink(missing_ok=True)
    data = datasets.load(options.data, name, options.queries, options.metric)
    datasets.ground_truth(data, options.cache, datasets.filter_mask(len(data.base), options.share))
    plans = parse_builds(options.build, data.base.shape, data.metric, options.engines.split(","))
    request = {
        "data": options.data,
        "set": name,
        "queries": options.queries,
        "metric": options.metric,
        "cache": options.cache,
        "threads": options.threads,
        "k": options.k,
        "share": options.share,
    }
    common = {
        "set": name,
        "share": options.share,
        "metric": data.metric,
        "k": options.k,
        "cpu": report.cpu_model(),
        "clock": options.clock,
        "date": time.strftime("%Y-%m-%d"),
    }
    del data
    modes = options.mode.split(",")
    groups, everything = [], []
    with open(f"{stem}.log", "w", encoding="utf-8") as log:
        try:
            for engine, plan in plans.items():
                builds, points = [], []
                for params in plan:
                    build = Build(engine, params, options, log)
                    builds.append(build)
                    everything.append(build)
                    build.start(request, options.build_timeout)
                    points += sweep(build, modes, options)
                    if build.facts:
                        seconds = build.facts["build_seconds"]
                        print(f"  {engine} {report.words(params)}: {seconds:.1f} s", flush=True)
                        report.append(
                            f"{stem}.builds.jsonl",
                            [{"engine": engine, "build": params, **build.facts, **common}],
                        )
                report.append(f"{stem}.coarse.jsonl", points)
                groups.append(candidates(builds, points, modes, options.points))
                used = {id(c.build) for c in groups[-1]}
                for build in builds:
                    if id(build) not in used:
                        build.worker.close()  # its memory is for the others
            alternate(groups, options)
            report.append(f"{stem}.jsonl", [c.point(common) for g in groups for c in g if c.runs])
        finally:
            for build in everything:
                build.worker.close()
    failures = [
        {"engine": b.engine, "build": b.params, "reason": b.failure}
        for b in everything
        if b.failure
    ]
    report.append(f"{stem}.builds.jsonl", [{**f, **common} for f in failures])
    draw(stem)


def alternate(groups, options) -> None:
    """Repetitions over the reported half, engines in turn."""
    for repetition in range(options.repetitions):
        start = time.monotonic()
        for candidate in in_turn(groups):
            run = candidate.build.measure(candidate.setting, candidate.mode, "report")
            if run:
                candidate.runs.append(clocked(run, options.clock))
        seconds = time.monotonic() - start
        print(f"  repetition {repetition + 1}: {seconds:.0f} s", flush=True)


def draw(stem) -> None:
    """Tables and plots of the lines beside `stem`."""
    points = report.read(f"{stem}.jsonl")
    lines = report.read(f"{stem}.builds.jsonl")
    facts = lines[0] if not points else points[0]
    modes = sorted({p["mode"] for p in points}, reverse=True)
    title = f"{facts['set']}, recall@{facts['k']}, {facts['metric']}"
    if facts.get("share", 1) < 1:
        title += f", a filter passes {100 * facts['share']:g} % of the rows"
    parts = [
        f"# {title}\n\n"
        f"{facts['cpu']}, {facts['date']}; one search thread. QPS by {facts['clock']} time:\n"
        "median of repetitions that alternate between the engines, interpolated on log QPS\n"
        "along each engine's Pareto front; parameters chosen on the even query rows, reported on\n"
        "the odd ones. '-': recall not reached."
    ]
    parts += [report.speed_tables(points, mode) for mode in modes]
    parts.append(report.build_table([line for line in lines if "reason" not in line]))
    failures = [line for line in lines if "reason" in line]
    if failures:
        parts.append(report.failure_table(failures))
    threaded = sorted({p["engine"] for p in points if p["cpu_per_wall"] > CPU_LIMIT})
    if threaded:
        parts.append(
            f"Used more than one thread in search (CPU time above {CPU_LIMIT} of wall time): "
            + ", ".join(threaded)
        )
    text = "\n\n".join(parts) + "\n"
    Path(f"{stem}.md").write_text(text, encoding="utf-8")
    print(text)
    try:
        import plot  # matplotlib is optional: tables come without it
    except ImportError as missing:
        print(f"no plots: {missing}", file=sys.stderr)
        return
    for mode in modes:
        said = {"single": "one query a call", "batch": "all queries in one call"}[mode]
        plot.speed_curves(points, mode, f"{facts['set']}: {said}", f"{stem}-{mode}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    datasets.add_arguments(parser)
    parser.add_argument(
        "--engines", default=",".join(engines.ENGINES), help="with commas (%(default)s)"
    )
    parser.add_argument(
        "--build",
        action="append",
        default=[],
        metavar="ENGINE=PARAMETERS",
        help="instead of an engine's default builds; repeatable; JSON or a factory string",
    )
    parser.add_argument(
        "--metric", default="", choices=("", "ip", "l2", "cosine"), help="instead of the set's own"
    )
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument(
        "--pass",
        dest="share",
        type=float,
        default=1,
        help="share of the rows that a filter passes, for engines that can (%(default)g)",
    )
    parser.add_argument("--mode", default="single,batch")
    parser.add_argument(
        "--clock",
        default="wall",
        choices=("wall", "cpu"),
        help="what QPS counts; cpu where other programs compute too (%(default)s)",
    )
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument(
        "--points", type=int, default=12, help="most settings an engine and mode (%(default)s)"
    )
    parser.add_argument(
        "--coarse",
        type=int,
        default=400,
        help="queries a setting in the coarse sweep (%(default)s)",
    )
    parser.add_argument(
        "--coarse-seconds",
        type=float,
        default=0.5,
        help="most time a single-query setting (%(default)s)",
    )
    parser.add_argument("--build-timeout", type=float, default=1800, help="seconds (%(default)s)")
    parser.add_argument(
        "--timeout", type=float, default=120, help="seconds of one measurement (%(default)s)"
    )
    parser.add_argument("--redraw", action="store_true", help="tables and plots of an earlier run")
    options = parser.parse_args()
    unknown = set(options.engines.split(",")) - set(engines.ENGINES)
    unknown |= set(options.mode.split(",")) - {"single", "batch"}
    if unknown:
        parser.error(f"unknown engine or mode: {', '.join(sorted(unknown))}")
    if options.share < 1:
        options.engines = ",".join(e for e in options.engines.split(",") if engines.ENGINES[e].filters)
    for name in options.sets.split(","):
        if options.redraw:
            draw(result_stem(name, options))
        else:
            print(name, flush=True)
            run_set(name, options)


if __name__ == "__main__":
    main()
