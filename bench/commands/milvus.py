"""SCANN in a Milvus server beside its own indexes: one table a set.

Every round starts three servers in turn, on data that stays: with the node that
does nothing, with our plug-in, with neither. The time of the first, measured
in the same way in the same round, is what Milvus itself costs.
bench/milvus sets up what is missing, and calls this.

Out, in --out: milvus-<set>.md, milvus-<set>.jsonl (one index a line).
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import exact_scans, milvus_collection, points
from bench.datasets import Dataset, Ids, floats, load_chosen
from bench.folders import MILVUS_BINARIES, REPOSITORY, Unavailable
from bench.ground_truth import ground_truth
from bench.milvus_collection import Built, IndexType, Measured, Rows
from bench.options import NeighbourOptions, OutOptions, SetOptions, another_default, option
from bench.tables import parameters, table
from faiss_ext import milvus_host

NPROBES = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
REORDER_KS = (30, 60, 100, 200, 400)
EFS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
MOST = 2.0  # a recall that nothing reaches: the most that can be had
BASELINE = REPOSITORY / "build" / "wheel" / "library" / "knowhere_plugin" / "milvus23" / "libknowhere_baseline.so"


@dataclass(frozen=True)
class Options(NeighbourOptions, OutOptions, SetOptions):
    queries: int = another_default(SetOptions, "queries", 1000)
    nothing: Path = option(BASELINE, "plug-in with the node that does nothing")
    binaries: Path = option(MILVUS_BINARIES, "where the server is unpacked")
    rounds: int = option(2, "medians of so many", low=1)
    goal: float = option(0.95, "recall that is asked for", low=0, high=1)
    nlist: int = option(0, "lists, 0: about 3 sqrt(rows)", low=0)


@dataclass
class Entry:
    """An index of a server, and what was measured, a round each."""

    server: str
    name: str
    kind: IndexType
    goal: float
    built: list[Built] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)

    def single(self) -> float:
        return statistics.median(one.single for one in self.measured)

    def batch(self) -> float:
        return statistics.median(one.batch for one in self.measured)

    def build_seconds(self) -> float:
        return min(one.seconds for one in self.built)


def entries(nlist: int, goal: float) -> list[Entry]:
    """What is compared; the first is the measure of the others."""
    raw = milvus_collection.scann(nlist, NPROBES, REORDER_KS, with_raw_data=True)
    no_raw = milvus_collection.scann(nlist, (nlist,), REORDER_KS, with_raw_data=False)
    nothing = milvus_collection.scann(nlist, NPROBES[:1], REORDER_KS[:1])
    return [
        Entry("nothing", "a node that does nothing", nothing, MOST),
        Entry("ours", "SCANN, ours", raw, goal),
        Entry("ours", "SCANN, ours, no raw data", no_raw, MOST),
        Entry("own", "SCANN, Milvus' own", raw, goal),
        Entry("own", "SCANN, Milvus' own, no raw data", no_raw, MOST),
        Entry("own", "HNSW", milvus_collection.hnsw(EFS), goal),
        Entry("own", "IVF_FLAT", milvus_collection.ivf_flat(nlist, NPROBES), goal),
    ]


@dataclass(frozen=True)
class Vehicle:
    """A server with one library, for the entries that name it."""

    name: str
    plugin: bool | Path


@dataclass
class Comparison:
    """All rounds of one set."""

    data: Dataset
    truth: Ids
    options: Options
    compared: list[Entry]

    def run(self) -> None:
        folder = self.options.out / "milvus" / self.data.name
        shutil.rmtree(folder, ignore_errors=True)
        vehicles = (Vehicle("nothing", self.options.nothing.resolve()), Vehicle("ours", True), Vehicle("own", False))
        for number in range(self.options.rounds):
            for vehicle in vehicles:
                self._serve(vehicle, folder / vehicle.name, number + 1)

    def _serve(self, vehicle: Vehicle, folder: Path, number: int) -> None:
        with milvus_host.start(
            folder,
            plugin=vehicle.plugin,
            binaries=self.options.binaries,
            settings=milvus_collection.ONE_SEGMENT,
            wait=milvus_collection.WAIT_FOR_OTHERS,
            on_wait=lambda holder: print(f"  waiting for {holder}", flush=True),
            on_step=lambda step: print(f"  {step}", flush=True),
        ) as server:
            rows = Rows(server, "vectors", floats(self.data.base), self.data.metric.upper())
            for entry in self.compared:
                if entry.server == vehicle.name:
                    self._measure(server, rows, entry, number)
            rows.drop_index()

    def _measure(self, server: milvus_host.Server, rows: Rows, entry: Entry, number: int) -> None:
        entry.built.append(rows.index(entry.kind))
        last = milvus_collection.measure(rows, entry.kind, self.data.query, self.truth, entry.goal)
        entry.measured.append(last)
        prove(server, entry, len(self.data.query))
        print(
            f"  {self.data.name}, round {number}, {entry.name}: built in {entry.built[-1].seconds:.1f} s, "
            f"recall {last.recall:.3f} with {last.parameters}, {last.single * 1e3:.2f} ms, "
            f"{last.batch * 1e3:.0f} ms a call",
            flush=True,
        )


def prove(server: milvus_host.Server, entry: Entry, queries: int) -> None:
    """The library that is named has answered, and no other one."""
    searched = server.statistics().get("queries", 0)
    own = entry.server == "own"
    if own != (server.serving() is None) or (not own and searched < queries):
        raise RuntimeError(
            f"{entry.name}: SCANN is {server.serving() or 'the own one'}, {searched} queries in the plug-in"
        )


def result_table(name: str, compared: Sequence[Entry], k: int, queries: int, rows_of_set: int) -> str:
    """The Markdown table of a set of `rows_of_set` rows."""
    floor = compared[0]
    head = [name, f"recall@{k}", "nq = 1", "of the node that does nothing", f"nq = {queries}"]
    head += ["above the node that does nothing", "index", "build", "compared one by one"]
    rows: list[list[Any]] = []
    for entry in compared:
        last = entry.measured[-1]
        exact = exact_scans.scanned(entry.kind.name, entry.server == "ours", [rows_of_set], in_server=True)
        rows.append(
            [
                entry.name if entry is floor else f"{entry.name} ({parameters(last.parameters)})",
                "" if entry is floor else f"{last.recall:.3f}",
                f"{entry.single() * 1e3:.2f} ms",
                f"{entry.single() / floor.single():.2f} x",
                f"{entry.batch() * 1e3:.1f} ms",
                f"{(entry.batch() - floor.batch()) * 1e3:.1f} ms",
                f"{entry.built[-1].size / 1e6:.2f} MB",
                f"{entry.build_seconds():.1f} s",
                exact_scans.said(exact, rows_of_set),
            ]
        )
    return table(head, rows)


def run(options: Options) -> None:
    """All sets."""
    if not options.nothing.is_file():
        raise Unavailable(f"{options.nothing} is missing: bench/milvus builds it")
    for name in options.sets:
        data = load_chosen(name, options)
        truth = ground_truth(data, options.cache)[:, : options.k]
        nlist = options.nlist or 1 << max(4, int(3 * len(data.base) ** 0.5).bit_length() - 1)
        comparison = Comparison(data, truth, options, entries(nlist, options.goal))
        comparison.run()
        text = result_table(name, comparison.compared, options.k, len(data.query), len(data.base))
        (options.out / f"milvus-{name}.md").write_text(text + "\n", encoding="utf-8")
        points.write(options.out / f"milvus-{name}.jsonl", map(asdict, comparison.compared))
        print(f"\n{text}\n", flush=True)
