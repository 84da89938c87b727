#!/usr/bin/env python3
"""Recall of the codes alone against eta, and against T (ICML 2020, figure 2).

No refine codes and no raw rows: what the 4-bit codes rank first is the answer.
One index a value of eta and of T; the same lists are probed by all.

    bench/threshold --set wordnet-384,glove-50,sift-128

Out, in --out: threshold.jsonl, threshold.md, threshold-eta and threshold-T
.png and .svg.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import datasets
import engines
import report
from worker import Failed, Worker

ETAS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
# For unit vectors; sets of longer ones scale T by their typical length.
THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)


def plan(name: str, options):
    """(parameter, value, factory string, length) of every index of a set."""
    data = datasets.load(options.data, name, options.queries)
    n = len(data.base)
    nlist = options.nlist or engines.usual_nlist(n)
    length = 1.0
    if data.metric == "l2":
        # T counts in units of the score, so it follows the vectors' length.
        length = float((data.base[:: max(1, n // 1000)] ** 2).sum(axis=1).mean() ** 0.5)
    more = f",{options.more}" if options.more else ""
    runs = [("eta", eta, f"IVF{nlist},ScaNN(eta={eta:g}{more})") for eta in options.etas]
    runs += [
        ("T", t, f"IVF{nlist},ScaNN(threshold={t * length:g}{more})") for t in options.thresholds
    ]
    return nlist, length, runs


def recalls(name: str, options) -> list[dict]:
    """One point an index: recall@k of all queries."""
    nlist, length, runs = plan(name, options)
    nprobe = nlist if options.nprobe == 0 else min(options.nprobe, nlist)
    request = {
        "data": options.data,
        "set": name,
        "queries": options.queries,
        "cache": options.cache,
        "threads": options.threads,
        "k": options.k,
    }
    points = []
    for parameter, value, factory in runs:
        with open(Path(options.out) / "threshold.log", "a", encoding="utf-8") as log:
            worker = Worker("ours", {"factory": factory}, options.threads, log)
        point = {
            "set": name,
            "parameter": parameter,
            "value": value,
            "factory": factory,
            "nprobe": nprobe,
            "length": length,
            "k": options.k,
        }
        try:
            facts = worker.build(request, options.timeout)
            setting = {"nprobe": nprobe, "reorder_k": options.k, "refine_k": options.k}
            run = worker.measure(setting, "batch", "all", options.k, options.timeout)
            point.update(
                recall=run["recall"],
                build_seconds=facts["build_seconds"],
                version=facts["version"],
            )
            print(f"  {factory}: recall@{options.k} {run['recall']:.4f}", flush=True)
        except Failed as reason:
            point["reason"] = str(reason)
            print(f"  {factory}: FAILED {reason}", flush=True)
        finally:
            worker.close()
        points.append(point)
    return points


def write(points, options) -> None:
    """Tables and plots: rows are values, columns are sets."""
    stem = Path(options.out) / "threshold"
    sets = list(dict.fromkeys(p["set"] for p in points))
    parts = [
        f"# Recall@{options.k} of the codes alone\n\n"
        f"{report.cpu_model()}, {time.strftime('%Y-%m-%d')}. No refine codes, no raw rows.\n"
        "T is given for unit vectors and multiplied by the set's typical length (root mean\n"
        "square) where they are longer. Bold: best of the column."
    ]
    for parameter in ("eta", "T"):
        good = [p for p in points if p["parameter"] == parameter and "recall" in p]
        if not good:
            continue
        cell = {(p["value"], p["set"]): p["recall"] for p in good}
        best = {
            s: max(p["recall"] for p in good if p["set"] == s)
            for s in sets
            if any(p["set"] == s for p in good)
        }
        rows = [
            [f"{value:g}"] + [bold(cell.get((value, s)), best.get(s)) for s in sets]
            for value in sorted({p["value"] for p in good})
        ]
        parts.append(report.table([parameter] + sets, rows))
        plot_lines(good, parameter, options.k, stem)
    failures = [p for p in points if "reason" in p]
    if failures:
        parts.append(
            report.table(
                ["failed", "factory", "reason"],
                [[p["set"], p["factory"], p["reason"]] for p in failures],
            )
        )
    text = "\n\n".join(parts) + "\n"
    Path(f"{stem}.md").write_text(text, encoding="utf-8")
    print(text)


def bold(value, best):
    """A cell; the best of its column stands out."""
    if value is None:
        return None
    return f"**{value:.4f}**" if value == best else f"{value:.4f}"


def plot_lines(points, parameter: str, k: int, stem) -> None:
    """One curve a set; skipped without matplotlib."""
    try:
        import plot  # matplotlib is optional
    except ImportError:
        return
    series = {}
    for point in sorted(points, key=lambda p: p["value"]):
        x, y = series.setdefault(point["set"], ([], []))
        x.append(point["value"])
        y.append(point["recall"])
    said = {
        "eta": "eta (weight of the parallel error; 1 = plain product quantisation)",
        "T": "T (score from which errors count, for unit vectors)",
    }[parameter]
    plot.lines(
        series,
        "Recall of the codes alone",
        said,
        f"recall@{k}",
        f"{stem}-{parameter}",
        log_x=parameter == "eta",
    )


def numbers(text: str) -> list[float]:
    """'1,2,4' -> [1.0, 2.0, 4.0]"""
    return [float(word) for word in text.split(",") if word]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    datasets.add_arguments(parser)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--nlist", type=int, default=0, help="0: near 4 sqrt(n)")
    parser.add_argument(
        "--nprobe", type=int, default=0, help="0: all lists, so that codes alone lose recall"
    )
    parser.add_argument("--etas", type=numbers, default=list(ETAS))
    parser.add_argument("--thresholds", type=numbers, default=list(THRESHOLDS))
    parser.add_argument("--more", default="", help="further ScaNN(...) options, e.g. rotation=1")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds of a build or search")
    options = parser.parse_args()
    Path(options.out).mkdir(parents=True, exist_ok=True)
    points = []
    for name in options.sets.split(","):
        print(name, flush=True)
        points += recalls(name, options)
    Path(options.out, "threshold.jsonl").unlink(missing_ok=True)
    report.append(Path(options.out) / "threshold.jsonl", points)
    write(points, options)


if __name__ == "__main__":
    main()
