"""Recall without raw data at equal bytes a vector: ours against Faiss' PQx4fs.

Faiss holds 4 bits for every 2 dimensions. Ours do too, with 2 bytes more for
the term of a vector's score, and once with so many codes fewer that nothing is
added. All have the same number of lists, probe the same number of them and
return what their codes rank first. Ours with 8-bit
refine codes is shown beside, with the bytes it costs.

    bench/codes --set wordnet-384,glove-50,sift-128

Out, in --out: codes.jsonl and codes.md. Misses: missed neighbours over those of
the best Faiss row; 0.5 means half as many are missed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench import points
from bench.datasets import load_chosen
from bench.engines.base import usual_nlist
from bench.options import IndexOptions, integers, option
from bench.points import Parameters
from bench.tables import publish, reason_cell, table
from bench.worker import recalls, task_for

REFINE_K = 100  # candidates that 8-bit codes rescore


@dataclass(frozen=True)
class Options(IndexOptions):
    nlist: int = option(0, "lists, 0: near 4 sqrt(n)", low=0)
    nprobes: tuple[int, ...] = option((32, 0), "numbers of lists, 0: all", parse=integers)
    more: tuple[str, ...] = option((), "a further row of ours with these ScaNN(...) options; repeatable", repeated=True)
    timeout: float = option(1800.0, "seconds of a build or search", low=0)


@dataclass(frozen=True)
class Candidate:
    """An index, and the bytes of all codes of a vector."""

    engine: str
    factory: str
    code_bytes: int


@dataclass(frozen=True)
class CodePoint:
    """Recall of an index, so many lists probed; or why it has none."""

    set: str
    engine: str
    factory: str
    code_bytes: int
    k: int
    lists: str
    setting: Parameters
    index_bytes: float | None  # a vector
    version: str | None
    recall: float | None
    reason: str | None


def own_bytes(codes: int) -> int:
    """Bytes of our codes: they come in fours, and a term of 2 bytes."""
    return 2 * math.ceil(codes / 4) + 2


def indexes(nlist: int, d: int, more: Sequence[str]) -> list[Candidate]:
    """What is compared on vectors of d dimensions."""
    pairs = math.ceil(d / 2)
    code = math.ceil(pairs / 2)
    fitting = (code - 2) // 2 * 4  # no byte more than Faiss' codes
    # Faiss cuts no odd dimension into pairs.
    peers = [] if d % 2 else [f"IVF{nlist},PQ{pairs}x4fs", f"IVF{nlist},PQ{pairs}x4fsr"]
    return [
        *(Candidate("faiss-pq", factory, code) for factory in peers),
        Candidate("ours", f"IVF{nlist},ScaNN{fitting}x4", own_bytes(fitting)),
        Candidate("ours", f"IVF{nlist},ScaNN", own_bytes(pairs)),
        *(Candidate("ours", f"IVF{nlist},ScaNN({text})", own_bytes(pairs)) for text in more),
        Candidate("ours", f"IVF{nlist},ScaNN,SQ8", own_bytes(pairs) + d + 8),
    ]


def setting_of(candidate: Candidate, nprobe: int, k: int) -> Parameters:
    """Search parameters: what the codes rank first is the answer."""
    if candidate.engine != "ours":
        return {"nprobe": nprobe}
    return {"nprobe": nprobe, "reorder_k": k, "refine_k": REFINE_K if "SQ8" in candidate.factory else k}


def measure(name: str, options: Options) -> list[CodePoint]:
    """Points of a set: every index and number of lists."""
    n, d = load_chosen(name, options).base.shape
    nlist = options.nlist or usual_nlist(n)
    task = task_for(name, options)
    nprobes = sorted({min(p or nlist, nlist) for p in options.nprobes})
    found = []
    for candidate in indexes(nlist, d, options.more):
        settings = [setting_of(candidate, nprobe, options.k) for nprobe in nprobes]
        got = recalls(candidate.engine, candidate.factory, task, settings, options.timeout, options.out / "codes.log")
        for i, (nprobe, setting) in enumerate(zip(nprobes, settings)):
            found.append(
                CodePoint(
                    set=name,
                    engine=candidate.engine,
                    factory=candidate.factory,
                    code_bytes=candidate.code_bytes,
                    k=options.k,
                    lists="all" if nprobe == nlist else str(nprobe),
                    setting=setting,
                    index_bytes=got.facts.memory_bytes / n if got.facts else None,
                    version=got.facts.version if got.facts else None,
                    recall=got.found[i] if i < len(got.found) else None,
                    reason=got.reason if i >= len(got.found) else None,
                )
            )
    return found


def misses(point: CodePoint, group: Sequence[CodePoint]) -> str | None:
    """Missed neighbours over those of the best peer of the group."""
    peers = [1 - p.recall for p in group if p.engine != "ours" and p.recall is not None]
    if point.recall is None or not peers or min(peers) <= 0:
        return None
    return f"{(1 - point.recall) / min(peers):.2f}"


def rows_of(measured: Sequence[CodePoint]) -> list[list[object]]:
    """One row a set, number of lists and index."""
    rows: list[list[object]] = []
    good = [p for p in measured if p.recall is not None]
    for name, lists in dict.fromkeys((p.set, p.lists) for p in good):
        group = [p for p in good if (p.set, p.lists) == (name, lists)]
        rows += [
            [
                name,
                lists,
                p.engine,
                p.factory,
                p.code_bytes,
                f"{p.index_bytes:.0f}",
                f"{p.recall:.4f}",
                misses(p, group),
            ]
            for p in group
        ]
    return rows


def run(options: Options) -> None:
    """All sets."""
    measured: list[CodePoint] = []
    for name in options.sets:
        print(name, flush=True)
        measured += measure(name, options)
    points.write(options.out / "codes.jsonl", map(points.as_line, measured))
    head = "set,lists,engine,index,code bytes,index bytes,recall,misses".split(",")
    parts = [
        "Code bytes: all codes of a vector; index bytes: the whole index over the number of vectors\n"
        "(ids, centroids, padding). Misses: missed neighbours over those of the best Faiss row of the group.",
        table(head, rows_of(measured)),
    ]
    failures = [[p.set, p.factory, reason_cell(p.reason)] for p in measured if p.reason]
    if failures:
        parts.append(table(["failed", "index", "reason"], failures))
    publish(options.out / "codes.md", f"Recall@{options.k} without raw data", parts)
