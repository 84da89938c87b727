"""Makes a set of SIFT descriptors of the pictures in Debian packages: 128 bytes a row, L2.

Packages are downloaded one after another and read, not installed, until there
are --rows rows. One picture in 16 gives queries, the others rows; what looks
like an earlier picture (a copy in another size) is left out, so that no query
is of a picture in the base. Descriptors are kept a file a package in
--out/descriptors: a run that was stopped goes on there, and a larger set begins
with what a smaller one has made. bench/siftset sets up what it needs.

    bench/siftset                       1 million rows: sift-1m
    bench/siftset --rows 10000000 --per-picture 50000 --side 3200
    bench/curves --data build/bench/sets --set sift-1m

Out, in --out: sift-<rows>.base.u8bin and sift-<rows>.query.u8bin.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import debian_pictures, sift_rows
from bench.debian_pictures import PACKAGES, Package
from bench.folders import RESULTS, Unavailable
from bench.options import OptionError, OutOptions, SeedOptions, another_default, option, words
from bench.sift_rows import MOST, WIDTH, Collected, Picture, Pictures

FILES_A_JOB = 4  # pictures that wait in memory
SPARE = 4  # bytes of the disk a byte of the set: files of packages hold more descriptors than are taken


@dataclass(frozen=True)
class Options(SeedOptions, OutOptions):
    out: Path = another_default(OutOptions, "out", RESULTS / "sets")
    rows: int = option(1_000_000, "rows of the base", low=1, high=100_000_000)
    queries: int = option(10_000, "queries", low=1, high=1_000_000)
    packages: tuple[str, ...] = option(PACKAGES, "Debian packages with commas, in this order", parse=words)
    per_picture: int = option(4000, "most descriptors of a picture", low=1, high=MOST)
    side: int = option(1600, "pixels: longer sides of pictures are scaled to this", low=64, high=10_000)
    jobs: int = option(os.cpu_count() or 1, "processes that compute descriptors", low=1, high=1024)

    def __post_init__(self) -> None:
        for name in self.packages:
            if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]*", name):
                raise OptionError(f"--packages {name} (allowed: names of Debian packages)")


def name_of(rows: int) -> str:
    """sift-1m, sift-204450, .."""
    for unit, letter in ((1_000_000, "m"), (1000, "k")):
        if rows % unit == 0:
            return f"sift-{rows // unit}{letter}"
    return f"sift-{rows}"


def rounded_down(rows: int) -> int:
    """To two digits, for a name: a set whose packages hold fewer rows than were asked for."""
    unit = 10 ** max(0, len(str(rows)) - 2)
    return rows // unit * unit


def check_disk(options: Options, packages: list[Package]) -> None:
    """Unavailable where the disk cannot hold the set, the files of packages and one package, unpacked."""
    needed = SPARE * WIDTH * (options.rows + options.queries) + 3 * max(package.size for package in packages)
    free = shutil.disk_usage(options.out).free
    if free < needed:
        raise Unavailable(
            f"{options.out} has {free / 1e9:.1f} GB free, the set and its packages take {needed / 1e9:.1f}"
        )


def counted(found: Iterable[Picture], package: Package) -> Iterator[Picture]:
    """The pictures; a terminal sees how many there were so far."""
    show = sys.stderr.isatty()
    for count, picture in enumerate(found, 1):
        if show:
            print(f"\r  {package.name}: {count} pictures", end="", file=sys.stderr, flush=True)
        yield picture
    if show:
        print("\r\033[K", end="", file=sys.stderr)


def descriptors(package: Package, options: Options, pool: Executor) -> Pictures:
    """Of the pictures of a package; from its file if an earlier run has made it."""
    folder = options.out / "descriptors"
    stem = package.file.rpartition(".")[0].replace("%3a", "-")
    opencv = importlib.import_module("cv2").__version__

    def make() -> Pictures:
        deb = debian_pictures.download(package, folder)
        files = debian_pictures.pictures(deb, folder)
        found = sift_rows.described(files, options.side, pool, FILES_A_JOB * options.jobs)
        made = sift_rows.together(counted(found, package))
        deb.unlink()
        return made

    return sift_rows.kept(folder / f"{stem}-{options.side}-opencv{opencv}.npz", make)


def collect(packages: list[Package], options: Options) -> Collected:
    """Rows and queries of as many packages as are needed."""
    collected = Collected(options.per_picture)
    workers = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, workers, sift_rows.ignore_interrupts) as pool:
        for package in packages:
            started, before = time.monotonic(), collected.base.count
            found = descriptors(package, options, pool)
            collected.take(found)
            print(
                f"{package.name}: {len(found.ends):,} pictures, {len(found.rows):,} descriptors, "
                f"{collected.base.count - before:,} new rows, {time.monotonic() - started:.0f} s",
                flush=True,
            )
            if collected.base.count >= options.rows and collected.query.count >= options.queries:
                break
    return collected


def write(collected: Collected, options: Options) -> None:
    """Both files; fewer rows than were asked for are said, and are in the name."""
    rng = np.random.default_rng(options.seed)
    queries = collected.queries(options.queries, rng)
    rows = min(options.rows, collected.base.count)
    if rows < options.rows:
        rows = rounded_down(rows)
        print(f"there are {collected.base.count:,} rows at most: more --packages, a larger --per-picture or --side")
    if not rows or not len(queries):
        raise ValueError(f"{', '.join(options.packages)}: {rows} rows, {len(queries)} queries: too few pictures")
    name = name_of(rows)
    order = rng.permutation(collected.base.count)[:rows]
    sift_rows.write_rows(options.out / f"{name}.query.u8bin", [queries], np.arange(len(queries)))
    sift_rows.write_rows(options.out / f"{name}.base.u8bin", collected.base.rows, order)
    counts = collected.pictures
    print(
        f"{name}: {rows:,} rows of {counts['base']:,} pictures, {len(queries):,} queries of {counts['query']:,} others;"
        f" {counts['left out']:,} that look like another were left out"
    )


def run(options: Options) -> None:
    """Descriptors of packages, then the set."""
    if importlib.util.find_spec("cv2") is None:
        raise Unavailable(f"cv2 is not installed for {sys.executable}: bench/siftset sets it up")
    packages = debian_pictures.find(options.packages)
    (options.out / "descriptors").mkdir(parents=True, exist_ok=True)
    check_disk(options, packages)
    write(collect(packages, options), options)
