"""How time per query and build time grow with the number of rows.

With --set the first rows of a real set, such as bench/siftset makes. Without it
synthetic ones: 128 dimensions, a mixture of Gaussians of 24 intrinsic dimensions
and a little noise in all, as many clusters at every size; their times grow
slower than those of real rows. Every size is a run of bench/curves: one query a
call, one thread, builds on two; time per query is that of the interpolated
point at the wanted recall. Exponents are slopes of least squares on logarithms.

    bench/growth --rows 100000,1000000,4000000
    bench/growth --set sift-10m --data build/bench/sets --rows 200000,1000000,10000000

Out, in --out: growth.md, growth-search.png and growth-build.png (and .svg),
and the files of bench/curves for each size, those of a set in a folder a size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import plots, points
from bench.commands import curves
from bench.datasets import Floats, Metric, load
from bench.engines import ENGINES
from bench.folders import RESULTS, Unavailable, default_data
from bench.options import (
    OptionError,
    OutOptions,
    RepetitionOptions,
    SeedOptions,
    ThreadOptions,
    another_default,
    integers,
    option,
    words,
)
from bench.tables import publish, table

DIMENSIONS = 128
INTRINSIC = 24
CLUSTERS = 2000
QUERIES = 2000
CHUNK = 1 << 16
NOISE = 0.05
WORLD, ROWS, ASKED = range(3)  # streams of random numbers of a seed


@dataclass(frozen=True)
class Options(RepetitionOptions, SeedOptions, ThreadOptions, OutOptions):
    out: Path = another_default(OutOptions, "out", RESULTS / "growth")
    rows: tuple[int, ...] = option((100_000, 1_000_000, 4_000_000), "sizes", parse=integers)
    set: str = option("", "name of a set, instead of synthetic rows", metavar="SET")
    data: Path = option(default_data(), "folder of the set; without it that of FAISS_EXT_BENCH_DATA")
    recall: float = option(0.95, "at which times are compared", low=0, high=1)
    engines: tuple[str, ...] = option(("ours", "scann", "faiss-pq"), "engines with commas", parse=words)

    def __post_init__(self) -> None:
        unknown = set(self.engines) - set(ENGINES)
        if unknown:
            raise OptionError(f"--engines {', '.join(sorted(unknown))} (allowed: {', '.join(ENGINES)})")
        if min(self.rows) < 1:
            raise OptionError(f"--rows {min(self.rows)} (allowed: 1 and more)")


def synthetic(n: int, seed: int, stream: int) -> Floats:
    """(n, DIMENSIONS); all streams of a seed lie in the same clusters."""
    world = np.random.default_rng([seed, WORLD])
    centers = world.standard_normal((CLUSTERS, INTRINSIC)).astype(np.float32)
    shape, _ = np.linalg.qr(world.standard_normal((DIMENSIONS, INTRINSIC)))
    rng = np.random.default_rng([seed, stream])
    rows = np.empty((n, DIMENSIONS), dtype=np.float32)
    for begin in range(0, n, CHUNK):
        part = rows[begin : begin + CHUNK]
        inner = 0.5 * rng.standard_normal((len(part), INTRINSIC), dtype=np.float32)
        inner += centers[rng.integers(CLUSTERS, size=len(part))]
        part[:] = inner @ shape.T.astype(np.float32)
        part += NOISE * rng.standard_normal(part.shape, dtype=np.float32)
    return rows


def write_set(folder: Path, n: int, seed: int) -> str:
    """growth-<n>.base.npy and the queries, which are the same for all sizes; the name of the set."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"growth-{n}"
    np.save(folder / f"{name}.base.npy", synthetic(n, seed, ROWS))
    np.save(folder / f"{name}.query.npy", synthetic(QUERIES, seed, ASKED))
    return name


def builds(n: int, d: int, metric: Metric, engines: Sequence[str]) -> tuple[str, ...]:
    """--build options: one build an engine, the first of bench/curves; of ours what "ScaNN" alone chooses."""
    peers = [name for name in engines if name != "ours"]
    return ("ours=ScaNN", *(f"{name}={json.dumps(ENGINES[name].builds(n, d, metric)[0])}" for name in peers))


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Exponent e of y = c x^e."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


@dataclass
class Grown:
    """Figures of every engine, one a size (nan: not measured)."""

    sizes: Sequence[int]
    search_us: dict[str, list[float]]
    build_s: dict[str, list[float]]


@dataclass(frozen=True)
class Source:
    """Of the rows of all sizes."""

    title: str
    d: int
    metric: Metric


def source_of(options: Options) -> Source:
    """The rows that are asked for; an error where the set has fewer."""
    if not options.set:
        return Source(f"synthetic clusters x {DIMENSIONS}", DIMENSIONS, "l2")
    data = load(options.data, options.set)
    n, d = data.base.shape
    if max(options.rows) > n:
        raise Unavailable(f"--rows {max(options.rows)}: {options.set} has {n} (allowed: 1..{n})")
    return Source(f"first rows of {options.set} x {d}", d, data.metric)


def run_size(n: int, source: Source, options: Options) -> Path:
    """Runs bench/curves on n rows; the file of its points."""
    if options.set:  # all sizes have one name
        name, data, out = options.set, options.data, options.out / f"{options.set}-{n}"
    else:
        name, data, out = write_set(options.out, n, options.seed), options.out, options.out
    asked = curves.Options(
        data=data,
        cache=out,
        out=out,
        sets=(name,),
        rows=n,
        metric="" if options.set else source.metric,  # the set's own: cosine scales rows
        mode=("single",),
        threads=options.threads,
        seed=options.seed,
        repetitions=options.repetitions,
        engines=options.engines,
        build=builds(n, source.d, source.metric, options.engines),
    )
    curves.run(asked)
    return Path(f"{curves.result_stem(name, asked)}.jsonl")


def grown(options: Options, source: Source) -> Grown:
    """The figures of every size."""
    found = Grown(options.rows, {}, {})
    for n in options.rows:
        measured = [points.point_of(line) for line in points.read(run_size(n, source, options))]
        groups = points.by_engine(measured)
        for engine in options.engines:
            group = groups.get(engine, [])
            qps = points.qps_at(group, options.recall)
            found.search_us.setdefault(engine, []).append(1e6 / qps if qps else math.nan)
            found.build_s.setdefault(engine, []).append(group[0].facts.build_seconds if group else math.nan)
    return found


def growth_table(what: str, sizes: Sequence[int], values: Mapping[str, Sequence[float]]) -> str:
    """A line an engine: its figures, and the exponent of their growth."""
    rows = []
    for name, series in values.items():
        known = len(sizes) > 1 and not any(map(math.isnan, series))
        exponent = f"{slope(sizes, series):.2f}" if known else None
        rows.append([name, *(None if math.isnan(v) else f"{v:.1f}" for v in series), exponent])
    return table([what, *(f"{n:,}" for n in sizes), "exponent"], rows)


def run(options: Options) -> None:
    """Tables and plots of all sizes."""
    source = source_of(options)
    found = grown(options, source)
    parts = [
        f"Single queries on one thread at recall@10 {options.recall:g}, builds on {options.threads}.",
        growth_table("query, us", found.sizes, found.search_us),
        growth_table("build, s", found.sizes, found.build_s),
    ]
    publish(options.out / "growth.md", f"Growth, {source.title}, {source.metric}", parts)
    if not plots.available():
        return
    for what, values, unit in (
        ("search", found.search_us, "microseconds a query"),
        ("build", found.build_s, "seconds to build"),
    ):
        curves_of = {name: plots.Series(found.sizes, v) for name, v in values.items() if not any(map(math.isnan, v))}
        titles = plots.Titles(f"{source.title[0].upper()}{source.title[1:]}: {what}", "rows", unit)
        if curves_of:
            plots.growth(curves_of, titles, options.out / f"growth-{what}")
