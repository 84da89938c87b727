#!/usr/bin/env python3
"""Recall without raw data at equal bytes a vector: ours against Faiss' PQx4fs.

Faiss holds 4 bits for every 2 dimensions. Ours do too, with 2 bytes more for
the term of a vector's score, and once with so many codes fewer that nothing is
added. All have the same number of lists, probe the same number of them and
return what their codes rank first. Ours with 8-bit
refine codes is shown beside, with the bytes it costs.

    bench/codes --set wordnet-384,glove-50,sift-128

Out, in --out: codes.jsonl and codes.md. Misses ratio: missed neighbours over
those of the best Faiss row; 0.5 means half as many are missed.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import datasets
import engines
import report
from worker import Failed, Worker

REFINE_K = 100  # candidates that 8-bit codes rescore


def plan(name: str, options):
    """Rows of a set: engine, factory, bytes a vector of all its codes."""
    data = datasets.load(options.data, name, options.queries)
    n, d = data.base.shape
    nlist = options.nlist or engines.usual_nlist(n)
    blocks = math.ceil(d / 2)
    code = math.ceil(blocks / 2)
    rows = [
        ("faiss-pq", f"IVF{nlist},PQ{blocks}x4fs", code),
        ("faiss-pq", f"IVF{nlist},PQ{blocks}x4fsr", code),
    ]
    if d % 2:
        rows = []  # Faiss cuts no odd dimension into pairs

    def own(codes: int) -> int:
        """Bytes of our codes: they come in fours, and a term of 2 bytes."""
        return 2 * math.ceil(codes / 4) + 2

    fitting = (code - 2) // 2 * 4  # no byte more than Faiss' codes
    rows.append(("ours", f"IVF{nlist},ScaNN{fitting}x4", own(fitting)))
    rows.append(("ours", f"IVF{nlist},ScaNN", own(blocks)))
    rows += [("ours", f"IVF{nlist},ScaNN({more})", own(blocks)) for more in options.more]
    rows.append(("ours", f"IVF{nlist},ScaNN,SQ8", own(blocks) + d + 8))
    return nlist, n, rows


def recalls(name: str, options) -> list[dict]:
    """Points: recall@k of every row and nprobe."""
    nlist, n, rows = plan(name, options)
    request = {
        "data": options.data,
        "set": name,
        "queries": options.queries,
        "cache": options.cache,
        "threads": options.threads,
        "k": options.k,
    }
    points = []
    for engine, factory, code in rows:
        with open(Path(options.out) / "codes.log", "a", encoding="utf-8") as log:
            worker = Worker(engine, {"factory": factory}, options.threads, log)
        point = {
            "set": name,
            "engine": engine,
            "factory": factory,
            "code_bytes": code,
            "k": options.k,
        }
        try:
            facts = worker.build(request, options.timeout)
            point.update(
                index_bytes=facts["memory_bytes"] / n,
                version=facts["version"],
                build_seconds=facts["build_seconds"],
            )
            for nprobe in sorted({min(p or nlist, nlist) for p in options.nprobes}):
                setting = {"nprobe": nprobe}
                if engine == "ours":
                    setting.update(
                        reorder_k=options.k, refine_k=REFINE_K if "SQ8" in factory else options.k
                    )
                run = worker.measure(setting, "batch", "all", options.k, options.timeout)
                lists = "all" if nprobe == nlist else str(nprobe)
                points.append(
                    {**point, "setting": setting, "lists": lists, "recall": run["recall"]}
                )
                print(
                    f"  {engine} {factory} lists {lists}: recall@{options.k} {run['recall']:.4f}",
                    flush=True,
                )
        except Failed as reason:
            points.append({**point, "reason": str(reason)})
            print(f"  {engine} {factory}: FAILED {reason}", flush=True)
        finally:
            worker.close()
    return points


def write(points, options) -> None:
    """The table: one row a set, number of lists and index."""
    rows = []
    good = [p for p in points if "recall" in p]
    for name, lists in dict.fromkeys((p["set"], p["lists"]) for p in good):
        group = [p for p in good if (p["set"], p["lists"]) == (name, lists)]
        peers = [1 - p["recall"] for p in group if p["engine"] != "ours"]
        for p in group:
            ratio = f"{(1 - p['recall']) / min(peers):.2f}" if peers and min(peers) > 0 else None
            size, share = f"{p['index_bytes']:.0f}", f"{p['recall']:.4f}"
            rows.append(
                [name, lists, p["engine"], p["factory"], p["code_bytes"], size, share, ratio]
            )
    text = (
        f"# Recall@{options.k} without raw data\n\n"
        f"{report.cpu_model()}, {time.strftime('%Y-%m-%d')}. Code bytes: all codes of a vector;\n"
        "index bytes: the whole index over the number of vectors (ids, centroids, padding).\n"
        "Misses: missed neighbours over those of the best Faiss row of the group.\n\n"
    )
    head = "set,lists,engine,index,code bytes,index bytes,recall,misses".split(",")
    text += report.table(head, rows) + "\n"
    failures = [[p["set"], p["factory"], p["reason"]] for p in points if "reason" in p]
    if failures:
        text += "\n" + report.table(["failed", "index", "reason"], failures) + "\n"
    Path(options.out, "codes.md").write_text(text, encoding="utf-8")
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    datasets.add_arguments(parser)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--nlist", type=int, default=0, help="0: near 4 sqrt(n)")
    parser.add_argument(
        "--nprobes",
        type=lambda t: [int(w) for w in t.split(",")],
        default=[32, 0],
        help="numbers of lists, 0: all (32,0)",
    )
    parser.add_argument(
        "--more",
        action="append",
        default=[],
        help="a further row of ours with these ScaNN(...) options; repeatable",
    )
    parser.add_argument("--timeout", type=float, default=1800, help="seconds of a build or search")
    options = parser.parse_args()
    Path(options.out).mkdir(parents=True, exist_ok=True)
    points = []
    for name in options.sets.split(","):
        print(name, flush=True)
        points += recalls(name, options)
    Path(options.out, "codes.jsonl").unlink(missing_ok=True)
    report.append(Path(options.out) / "codes.jsonl", points)
    write(points, options)


if __name__ == "__main__":
    main()
