#!/usr/bin/env python3
"""How time per query and build time grow with the number of rows.

The sets are synthetic, since no real one comes in all sizes: 128 dimensions, a
mixture of Gaussians of 24 intrinsic dimensions and a little noise in all, as
many clusters at every size. Every size is a run of bench/curves: one query a
call, one thread, builds on two; time per query is that of the interpolated
point at the wanted recall. Exponents are slopes of least squares on logarithms.

    bench/growth --rows 100000,1000000,4000000

Out, in --out: growth.md, growth-search.png and growth-build.png (and .svg),
and the files of bench/curves for each size.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import datasets
import engines
import report

DIMENSIONS = 128
INTRINSIC = 24
CLUSTERS = 2000
QUERIES = 2000
CHUNK = 1 << 16
NOISE = 0.05


def synthetic(n: int, seed: int = 1) -> np.ndarray:
    """(n, DIMENSIONS) float32; rows of the same seed lie in the same clusters."""
    world = np.random.default_rng(0)
    centers = world.standard_normal((CLUSTERS, INTRINSIC)).astype(np.float32)
    shape, _ = np.linalg.qr(world.standard_normal((DIMENSIONS, INTRINSIC)))
    rng = np.random.default_rng(seed)
    rows = np.empty((n, DIMENSIONS), dtype=np.float32)
    for begin in range(0, n, CHUNK):
        part = rows[begin : begin + CHUNK]
        inner = 0.5 * rng.standard_normal((len(part), INTRINSIC), dtype=np.float32)
        inner += centers[rng.integers(CLUSTERS, size=len(part))]
        part[:] = inner @ shape.T.astype(np.float32)
        part += NOISE * rng.standard_normal(part.shape, dtype=np.float32)
    return rows


def write_sets(folder: Path, sizes: list[int]) -> None:
    """growth-<n>.base.npy for each size, and the same queries for all."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in sizes:
        stem = folder / f"growth-{n}"
        if not Path(f"{stem}.query.npy").is_file():
            np.save(f"{stem}.base.npy", synthetic(n))
            np.save(f"{stem}.query.npy", synthetic(QUERIES, seed=2))


def builds(n: int) -> list[str]:
    """--build options: one build an engine, by the rules of bench/curves."""
    nlist = engines.usual_nlist(n)
    return [
        "--build", "ours=ScaNN",
        "--build", f'scann={{"leaves": {nlist // 2}, "eta": null, "soar": null}}',
        "--build", f"faiss-pq=IVF{nlist},PQ{DIMENSIONS // 2}x4fsr,RFlat",
    ]  # fmt: skip


def slope(x, y) -> float:
    """Exponent e of y = c x^e."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="100000,1000000,4000000", help="sizes (%(default)s)")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--engines", default="ours,scann,faiss-pq")
    parser.add_argument("--out", default=str(datasets.DEFAULT_CACHE / "growth"))
    options = parser.parse_args()
    out, sizes = Path(options.out), [int(n) for n in options.rows.split(",")]
    write_sets(out, sizes)
    curves = Path(__file__).resolve().parent / "curves"
    for n in sizes:
        command = [sys.executable, str(curves), "--set", f"growth-{n}", "--data", str(out), "--out", str(out)]
        command += ["--cache", str(out), "--metric", "l2", "--mode", "single", "--engines", options.engines]
        subprocess.run(command + builds(n), check=True)

    search: dict[str, list] = {}
    built: dict[str, list] = {}
    for n in sizes:
        points = report.read(out / f"curves-growth-{n}.jsonl")
        for name, group in report.by_engine(points).items():
            qps = report.qps_at(group, options.recall)
            search.setdefault(name, []).append(1e6 / qps if qps else math.nan)
            built.setdefault(name, []).append(group[0]["build_seconds"])
    text = (
        f"# Growth, synthetic clusters x {DIMENSIONS}, l2\n\n"
        f"{report.cpu_model()}, {time.strftime('%Y-%m-%d')}; single queries on one thread at recall@10"
        f" {options.recall:g}, builds on two.\n"
    )
    for what, values, unit, form in (("query", search, "us", "{:.1f}"), ("build", built, "s", "{:.1f}")):
        rows = []
        for name, series in values.items():
            exponent = slope(sizes, series) if len(series) == len(sizes) else math.nan
            rows.append([name] + [form.format(v) for v in series] + [f"{exponent:.2f}"])
        text += "\n" + report.table([f"{what}, {unit}"] + [f"{n:,}" for n in sizes] + ["exponent"], rows) + "\n"
    (out / "growth.md").write_text(text, encoding="utf-8")
    print("\n" + text)
    try:
        import plot  # matplotlib is optional: tables come without it
    except ImportError as missing:
        print(f"no plots: {missing}", file=sys.stderr)
        return
    for what, values, unit in (("search", search, "microseconds a query"), ("build", built, "seconds to build")):
        series = {name: (sizes[: len(v)], v) for name, v in values.items()}
        plot.growth(series, f"Synthetic clusters x {DIMENSIONS}: {what}", "rows", unit, out / f"growth-{what}")


if __name__ == "__main__":
    main()
