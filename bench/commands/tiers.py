"""What a query costs with less and less of an index file in memory.

One query a call, one thread. For each bound of memory the file is opened twice:
cold (the system has nothing of it in memory) the first queries are timed, warm
(all queries have been searched before) all of them. `reads`: calls of the system a
query, `disk`: those of them that the system did not have in memory, cold; `warm
cached`: rows a query that the index itself had kept from earlier ones. The last
line is the file mapped as a whole, where each page that is missing is a fault.

    bench/tiers --set wordnet-384 --factory "ScaNN,SQ8,RFlat" --setting nprobe=20,refine_k=60,reorder_k=16

    bench/tiers --set wordnet-384 --factory "ScaNN,SQ8,RFlat" --peers faiss,diskann

The second compares with libraries that leave rows on disk (disk_peers.py says how);
DiskANN's needs numpy 1.25, so it has an environment of its own:
`python3 -m venv build/venv-diskann; build/venv-diskann/bin/pip install diskannpy`.

Out, in --out: tiers.md or tiers-peers.md; and the indexes, removed at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import disk_peers
from bench.datasets import Floats, Ids, load_chosen
from bench.engines.ours import build_index, library
from bench.ground_truth import ground_truth, padded, recall
from bench.options import IndexOptions, OptionError, RepetitionOptions, assignments, numbers, option, words
from bench.page_cache import forget
from bench.tables import megabytes, parameters, publish, table
from bench.timing import one_by_one

HEAD = ("in memory", "MB", "cold median us", "cold p99", "reads", "disk", "warm median us", "warm p99", "warm cached")


@dataclass(frozen=True)
class Options(RepetitionOptions, IndexOptions):
    factory: str = option("ScaNN,RFlat", "factory string of the index")
    setting: tuple[dict[str, int], ...] = option(
        (), "nprobe=..,refine_k=..,reorder_k=..; repeatable; default: the index' own", parse=assignments, repeated=True
    )
    cold: int = option(200, "queries searched cold", low=1)
    peers: tuple[str, ...] = option(
        (), f"instead: {','.join(disk_peers.PEERS)}: indexes that leave rows on disk, beside ours", parse=words
    )
    targets: tuple[float, ...] = option((0.9, 0.95), "with --peers: recalls, with commas", parse=numbers)

    def __post_init__(self) -> None:
        if unknown_peers := set(self.peers) - set(disk_peers.PEERS):
            raise OptionError(f"--peers: {', '.join(sorted(unknown_peers))} (allowed: {', '.join(disk_peers.PEERS)})")
        if not all(0 < target <= 1 for target in self.targets):
            raise OptionError(f"--targets: {', '.join(map(str, self.targets))} (allowed: above 0, to 1)")
        if unknown := {name for setting in self.setting for name in setting} - {"nprobe", "refine_k", "reorder_k"}:
            raise OptionError(f"--setting: {', '.join(sorted(unknown))} (allowed: nprobe, refine_k, reorder_k)")


@dataclass(frozen=True)
class Opened:
    """A way to open the file."""

    name: str
    open: Callable[[], Any]


@dataclass(frozen=True)
class Searched:
    """Microseconds of each query, what was counted, ids."""

    micros: Floats
    counted: Any
    found: Ids


def ways(path: Path) -> list[Opened]:
    """From all in memory to nothing."""
    fx = library()
    columns = fx.column_bytes(path)
    model = path.stat().st_size - sum(column.memory for column in columns)
    bounds = [("all", model + sum(column.memory for column in columns))]
    for left_out in (("raw",), ("raw", "refine")):
        if any(column.column == left_out[-1] for column in columns):
            kept = [column for column in columns if column.column not in left_out]
            bounds.append((", ".join(column.column for column in kept), model + sum(c.memory for c in kept)))
    rows = next((column.memory for column in columns if column.column == "raw"), 0)
    if rows:
        bounds.insert(1, ("all but raw, a cache of half the rows' bytes", bounds[0][1] - rows + rows // 2))

    def within(memory: int) -> Callable[[], Any]:
        return lambda: fx.read_index(path, memory=memory)

    return [
        *(Opened(name, within(memory)) for name, memory in bounds),
        Opened("nothing, mapped", lambda: fx.read_index(path, mmap=True)),
    ]


def search(index: Any, query: Floats, k: int, setting: dict[str, int]) -> Searched:
    """Query by query."""
    stats = library().SearchStats()
    calls = one_by_one(lambda row: index.search(row, k, stats=stats, **setting)[1][0], [q[None] for q in query])
    return Searched(np.array(calls.micros), stats, padded(calls.answers, k))


def measure(way: Opened, path: Path, query: Floats, setting: dict[str, int], options: Options) -> tuple[list[str], Ids]:
    """One line of the table, and what was found."""
    forget(path)
    index = way.open()
    cold = search(index, query[: options.cold], options.k, setting)
    warm = [search(index, query, options.k, setting) for _ in range(1 + options.repetitions)][1:]
    micros = np.minimum.reduce([one.micros for one in warm])
    held = sum(column.memory + column.cache for column in library().column_bytes(index))
    line = [
        way.name,
        megabytes(held),
        f"{np.median(cold.micros):.0f}",
        f"{np.percentile(cold.micros, 99):.0f}",
        f"{cold.counted.file_reads / cold.counted.nq:.1f}",
        f"{cold.counted.disk_reads / cold.counted.nq:.1f}",
        f"{np.median(micros):.1f}",
        f"{np.percentile(micros, 99):.1f}",
        f"{warm[-1].counted.cached_rows / warm[-1].counted.nq:.1f}",
    ]
    return line, warm[-1].found


def run_set(name: str, options: Options) -> list[str]:
    """A table for each setting."""
    data = load_chosen(name, options)
    truth = ground_truth(data, options.cache)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "tiers.scann"
    library().write_index(build_index(data.base, options.factory, data.metric, options.threads), path)
    library().omp_set_num_threads(1)
    parts = []
    try:
        for setting in options.setting or ({},):
            lines, found = zip(*(measure(way, path, data.query, setting, options) for way in ways(path)))
            parts.append(
                f"{name}, {options.factory}, {parameters(setting)}: recall@{options.k} "
                f"{recall(found[0], truth, options.k):.4f}, file of {megabytes(path.stat().st_size)} MB"
            )
            parts.append(table(HEAD, lines))
            if any((one != found[0]).any() for one in found):
                parts.append("failed: the answers differ")
    finally:
        path.unlink()
    return parts


def run(options: Options) -> None:
    """All sets."""
    if options.peers:
        parts = [part for name in options.sets for part in disk_peers.compare(name, options)]
        publish(options.out / "tiers-peers.md", "Rows on disk", parts)
        return
    parts = [part for name in options.sets for part in run_set(name, options)]
    publish(options.out / "tiers.md", "With less of the file in memory", parts)
