"""The indexes of the comparison: those of Milvus' blog on its SCANN, and ours.

In:  the size of the data, k. Out: rows of the table, each one build and several
search settings, from fast to exact; parameters by Milvus' names.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.engines.base import usual_nlist
from bench.points import Parameters


@dataclass(frozen=True)
class Row:
    """One index. `ours`: by faiss_ext; else by the host or by faiss-cpu."""

    name: str
    index: str
    build: Parameters
    settings: list[Parameters]
    ours: bool = False


def rows(vehicle: str, n: int, d: int, k: int) -> list[Row]:
    """Rows for "client" (in process) or "server" (Milvus, with and without the plug-in)."""
    nlist = min(usual_nlist(n), max(1, n // 39))
    probes = sorted({max(1, nlist // share) for share in (64, 24, 8)})
    reorder = [max(k, k * times) for times in (2, 4, 8)][-len(probes) :]
    lists: list[Parameters] = [{"nprobe": p} for p in probes]
    raw: list[Parameters] = [{"nprobe": p, "reorder_k": r} for p, r in zip(probes, reorder)]
    ivf = {"nlist": nlist}
    codes = max(m for m in range(1, max(2, d // 2 + 1)) if d % m == 0)
    graph = {"M": 16, "efConstruction": 200}
    widths: list[Parameters] = [{"ef": max(k, int(k * times))} for times in (1.2, 2, 4)]
    found = [
        Row("ours", "SCANN", {**ivf, "with_raw_data": True}, raw, ours=True),
        Row("ours, no raw data", "SCANN", {**ivf, "with_raw_data": False}, raw, ours=True),
    ]
    if vehicle == "client":
        int8 = {**ivf, "with_raw_data": False, "refine_type": "int8"}
        found += [
            Row("ours, int8", "SCANN", int8, raw, ours=True),
            Row("FastScan", "FASTSCAN", {**ivf, "with_raw_data": True}, raw),
            Row(
                "FastScan, no raw data",
                "FASTSCAN",
                {**ivf, "with_raw_data": False},
                [{**s, "rerank": False} for s in lists],
            ),
        ]
    else:
        # The stock SCANN ignores reorder_k without raw data, but checks it.
        found += [
            Row("SCANN", "SCANN", {**ivf, "with_raw_data": True}, raw),
            Row("SCANN, no raw data", "SCANN", {**ivf, "with_raw_data": False}, raw),
        ]
    return found + [
        Row("IVF_FLAT", "IVF_FLAT", ivf, lists),
        Row("IVF_PQ", "IVF_PQ", {**ivf, "m": codes, "nbits": 8}, lists),
        Row("HNSW", "HNSW", graph, widths),
    ]
