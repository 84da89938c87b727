#!/usr/bin/env python3
"""What index.calibrate() promises and what it delivers.

For each target: parameters chosen from rows of the index, and from the even
query rows; recall and time on the odd ones, which calibration has not seen.
Beside it the fastest setting of a sweep that reaches the same recall on the odd
rows: chosen knowing the answers, so that nothing can beat it honestly.

    bench/calibration --set wordnet-384,glove-50,sift-128

Out, in --out: calibration.jsonl and calibration.md.
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from pathlib import Path

import datasets
import engines
import report

import faiss_ext as fx

TARGETS = (0.80, 0.90, 0.95, 0.98, 0.99)
SPACING = 1.25  # between values of the sweep
PASSES = 3  # passes; the fastest counts


def spaced(low: int, high: int) -> list[int]:
    """Whole numbers from low to high, about SPACING apart."""
    values, value = [], float(low)
    while value <= high:
        values.append(round(value))
        value = max(value * SPACING, value + 1)
    return sorted(set(values))


def measured(index, query, truth, k: int, setting: dict, passes: int = 1):
    """(recall, microseconds a query, one query a call); an empty setting: the index' own."""
    fastest = float("inf")
    for _ in range(passes):
        start = time.perf_counter()
        found = [index.search(row[None], k, **setting)[1][0] for row in query]
        fastest = min(fastest, time.perf_counter() - start)
    return datasets.recall(found, truth, k), fastest / len(query) * 1e6


def sweep(index, query, truth, k: int, refine: bool) -> list[tuple[float, float, dict]]:
    """(recall, microseconds, setting) of a grid, a fifth of the queries each."""
    points = []
    lists = spaced(1, index.nlist // 2)
    grid = [(r, s) for r in spaced(2 * k, 20 * k) for s in ((k, 3 * k // 2, 2 * k, 3 * k) if refine else (0,)) if s <= r]
    for nprobe, (first, second) in product(lists, grid):
        setting = {"nprobe": nprobe, "reorder_k": second or first, **({"refine_k": first} if refine else {})}
        recall, micros = measured(index, query[::5], truth[::5], k, setting)
        points.append((recall, micros, setting))
    return points


def best_by_hand(points, wanted: float, index, query, truth, k: int) -> float:
    """Microseconds of the fastest setting that reaches `wanted`, timed on all queries."""
    times = []
    for recall, _, setting in sorted(points, key=lambda point: point[1]):
        if recall < wanted - 0.004:  # the sweep saw a fifth of the queries
            continue
        recall, micros = measured(index, query, truth, k, setting, PASSES)
        if recall >= wanted:
            times.append(micros)
        if len(times) == 5:
            break
    return min(times, default=float("nan"))


def run(name: str, options) -> list[dict]:
    """Points of one set."""
    data = datasets.load(options.data, name, options.queries)
    truth = datasets.ground_truth(data, options.cache)
    n, d = data.base.shape
    factory = options.factory or engines.Ours.builds(n, d, data.metric)[0]["factory"]
    fx.omp_set_num_threads(options.threads)
    index = fx.index_factory(d, factory, fx.METRIC_L2 if data.metric == "l2" else fx.METRIC_INNER_PRODUCT)
    index.train(data.base)
    index.add(data.base)
    print(f"{name}, {factory}", flush=True)
    seen, unseen, truth = data.query[::2], data.query[1::2], truth[1::2]
    fx.omp_set_num_threads(1)
    settings = sweep(index, unseen, truth, options.k, "SQ" in factory)
    points = []
    for target, (source, given) in product(TARGETS, (("rows", None), ("queries", seen))):
        fx.omp_set_num_threads(options.threads)
        start = time.perf_counter()
        chosen = index.calibrate(given, target_recall=target, k=options.k)
        seconds = time.perf_counter() - start
        fx.omp_set_num_threads(1)
        recall, micros = measured(index, unseen, truth, options.k, {}, PASSES)
        by_hand = best_by_hand(settings, recall, index, unseen, truth, options.k)
        points.append({"set": name, "factory": factory, "target": target, "from": source, **chosen, "reached": recall,
                       "us": micros, "by_hand_us": by_hand, "seconds": seconds})
        print(f"  {target:.2f} from {source}: {recall:.4f}, {micros:.0f} us, by hand {by_hand:.0f} us,"
              f" chosen in {seconds:.1f} s: {chosen}", flush=True)
    return points


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    datasets.add_arguments(parser)
    parser.add_argument("--factory", default="", help="instead of bench/curves' first")
    parser.add_argument("--k", type=int, default=10)
    options = parser.parse_args()
    Path(options.out).mkdir(parents=True, exist_ok=True)
    points = [point for name in options.sets.split(",") for point in run(name, options)]
    Path(options.out, "calibration.jsonl").unlink(missing_ok=True)
    report.append(Path(options.out) / "calibration.jsonl", points)
    head = "set,target,from,reached,nprobe,refine_k,reorder_k,us,by hand us,ratio,seconds".split(",")
    rows = [[p["set"], f"{p['target']:.2f}", p["from"], f"{p['reached']:.4f}", p["nprobe"], p["refine_k"], p["reorder_k"],
             f"{p['us']:.0f}", f"{p['by_hand_us']:.0f}", f"{p['us'] / p['by_hand_us']:.2f}", f"{p['seconds']:.1f}"]
            for p in points]
    text = f"# Calibrated searches, recall@{options.k}\n\n{report.cpu_model()}, {time.strftime('%Y-%m-%d')}.\n\n"
    text += report.table(head, rows) + "\n"
    Path(options.out, "calibration.md").write_text(text, encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    main()
