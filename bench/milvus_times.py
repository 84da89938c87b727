"""The program that bench/milvus starts: one table a set.

Every round starts three servers in turn, on data that stays: with the node that
does nothing, with our plug-in, with neither. The time of the first, measured
in the same way in the same round, is what Milvus itself costs.

Out, in --out: milvus-<set>.md, milvus-<set>.jsonl (one index a line).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import signal
import statistics
from pathlib import Path

import datasets
import milvus_client
from milvus_client import Built, IndexType, Measured, Rows

from faiss_ext import milvus_host

WAIT_FOR_OTHERS = 600.0  # seconds
NPROBES = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
REORDER_KS = (30, 60, 100, 200, 400)
EFS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
MOST = 2.0  # a recall that nothing reaches: the most that can be had


@dataclasses.dataclass
class Entry:
    """An index of a server, and what was measured, a round each."""

    server: str
    name: str
    kind: IndexType
    goal: float
    built: list[Built] = dataclasses.field(default_factory=list)
    measured: list[Measured] = dataclasses.field(default_factory=list)

    def single(self) -> float:
        return statistics.median(one.single for one in self.measured)

    def batch(self) -> float:
        return statistics.median(one.batch for one in self.measured)

    def build_seconds(self) -> float:
        return min(one.seconds for one in self.built)


def entries(nlist: int, goal: float) -> list[Entry]:
    """What is compared; the first is the measure of the others."""
    raw = milvus_client.scann(nlist, NPROBES, REORDER_KS, with_raw_data=True)
    no_raw = milvus_client.scann(nlist, (nlist,), REORDER_KS, with_raw_data=False)
    nothing = milvus_client.scann(nlist, NPROBES[:1], REORDER_KS[:1])
    return [
        Entry("nothing", "a node that does nothing", nothing, MOST),
        Entry("ours", "SCANN, ours", raw, goal),
        Entry("ours", "SCANN, ours, no raw data", no_raw, MOST),
        Entry("own", "SCANN, Milvus' own", raw, goal),
        Entry("own", "SCANN, Milvus' own, no raw data", no_raw, MOST),
        Entry("own", "HNSW", milvus_client.hnsw(EFS), goal),
        Entry("own", "IVF_FLAT", milvus_client.ivf_flat(nlist, NPROBES), goal),
    ]


def run(name: str, given: argparse.Namespace) -> list[Entry]:
    """All rounds of one set."""
    data = datasets.load(given.data, name, given.queries)
    truth = datasets.ground_truth(data, given.cache)[:, : given.k]
    metric = {"ip": "IP", "l2": "L2"}[data.metric]
    nlist = given.nlist or 1 << max(4, int(3 * len(data.base) ** 0.5).bit_length() - 1)
    compared = entries(nlist, given.goal)
    folder = Path(given.out) / "milvus" / name
    shutil.rmtree(folder, ignore_errors=True)
    for round_ in range(given.rounds):
        for library, plugin in {"nothing": Path(given.nothing).resolve(), "ours": True, "own": False}.items():
            with milvus_host.start(
                folder / library, plugin=plugin, binaries=given.binaries, settings=milvus_client.ONE_SEGMENT,
                wait=WAIT_FOR_OTHERS, on_wait=lambda holder: print(f"  waiting for {holder}", flush=True),
            ) as server:
                rows = Rows(server, "vectors", data.base, metric)
                for entry in (entry for entry in compared if entry.server == library):
                    entry.built.append(rows.index(entry.kind))
                    entry.measured.append(milvus_client.measure(rows, entry.kind, data.query, truth, entry.goal))
                    prove(server, entry, len(data.query))
                    last = entry.measured[-1]
                    print(f"  {name}, round {round_ + 1}, {entry.name}: built in {entry.built[-1].seconds:.1f} s, "
                          f"recall {last.recall:.3f} with {last.parameters}, {last.single * 1e3:.2f} ms, "
                          f"{last.batch * 1e3:.0f} ms a call", flush=True)
                rows.drop_index()
    return compared


def prove(server: milvus_host.Server, entry: Entry, queries: int) -> None:
    """The library that is named has answered, and no other one."""
    searched = server.statistics().get("queries", 0)
    if (entry.server == "own") != (server.serving() is None) or (entry.server != "own" and searched < queries):
        raise RuntimeError(
            f"{entry.name}: SCANN is {server.serving() or 'the own one'}, {searched} queries in the plug-in")


def table(name: str, compared: list[Entry], given: argparse.Namespace) -> str:
    """The Markdown table of a set."""
    floor = compared[0]
    lines = [
        f"| {name} | recall@{given.k} | nq = 1 | of the node that does nothing | nq = {given.queries} "
        "| above the node that does nothing | index | build |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for entry in compared:
        reached = "" if entry is floor else f"{entry.measured[-1].recall:.3f}"
        how = "" if entry is floor else " (" + ", ".join(
            f"{key} {value}" for key, value in entry.measured[-1].parameters.items()) + ")"
        lines.append(
            f"| {entry.name}{how} | {reached} "
            f"| {entry.single() * 1e3:.2f} ms | {entry.single() / floor.single():.2f} x "
            f"| {entry.batch() * 1e3:.1f} ms | {(entry.batch() - floor.batch()) * 1e3:.1f} ms "
            f"| {entry.built[-1].size / 1e6:.2f} MB | {entry.build_seconds():.1f} s |")
    return "\n".join(lines)


def main() -> None:
    """Runs all sets."""
    parser = argparse.ArgumentParser(prog="bench/milvus", description="SCANN in Milvus beside its own indexes.")
    datasets.add_arguments(parser, queries=1000)
    build = datasets.REPOSITORY / "build"
    nothing = build / "wheel" / "knowhere_plugin" / "milvus23" / "libknowhere_baseline.so"
    parser.add_argument("--nothing", default=str(nothing), help="plug-in with the node that does nothing (%(default)s)")
    parser.add_argument("--binaries", default=str(build / "milvus"), help="where the server is unpacked (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="medians of so many (%(default)s)")
    parser.add_argument("--goal", type=float, default=0.95, help="recall that is asked for (%(default)s)")
    parser.add_argument("-k", type=int, default=10, help="neighbours (%(default)s)")
    parser.add_argument("--nlist", type=int, default=0, help="lists, default: about 3 sqrt(rows)")
    given = parser.parse_args()

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    for how in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(how, end)
    for name in given.sets.split(","):
        compared = run(name, given)
        text = table(name, compared, given)
        out = Path(given.out)
        (out / f"milvus-{name}.md").write_text(text + "\n", encoding="utf-8")
        with open(out / f"milvus-{name}.jsonl", "w", encoding="utf-8") as file:
            for entry in compared:
                file.write(json.dumps(dataclasses.asdict(entry)) + "\n")
        print(f"\n{text}\n", flush=True)


if __name__ == "__main__":
    main()
