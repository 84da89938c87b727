"""Recall of the codes alone against eta, and against T (ICML 2020, figure 2).

No refine codes and no raw rows: what the 4-bit codes rank first is the answer.
One index a value of eta and of T; the same lists are probed by all.

    bench/threshold --set wordnet-384,glove-50,sift-128

Out, in --out: threshold.jsonl, threshold.md, threshold-eta and threshold-T
.png and .svg.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench import plots, points
from bench.datasets import Dataset, floats, load_chosen
from bench.engines.base import usual_nlist
from bench.options import IndexOptions, numbers, option
from bench.tables import publish, reason_cell, table
from bench.worker import recalls, task_for

ETAS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
# For unit vectors; sets of longer ones scale T by their typical length.
THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
AXES = {
    "eta": "eta (weight of the parallel error; 1 = plain product quantisation)",
    "T": "T (score from which errors count, for unit vectors)",
}


@dataclass(frozen=True)
class Options(IndexOptions):
    nlist: int = option(0, "lists, 0: near 4 sqrt(n)", low=0)
    nprobe: int = option(0, "lists probed, 0: all, so that codes alone lose recall", low=0)
    etas: tuple[float, ...] = option(ETAS, "values of eta", parse=numbers)
    thresholds: tuple[float, ...] = option(THRESHOLDS, "values of T", parse=numbers)
    more: str = option("", "further ScaNN(...) options, e.g. rotation=1")
    timeout: float = option(1800.0, "seconds of a build or search", low=0)


@dataclass(frozen=True)
class Variant:
    """One value of eta or T, and the index that has it."""

    parameter: str
    value: float
    factory: str


@dataclass(frozen=True)
class ThresholdPoint:
    """Recall of a variant; or why it has none."""

    set: str
    parameter: str
    value: float
    factory: str
    nprobe: int
    length: float  # typical of the set's vectors
    k: int
    recall: float | None
    reason: str | None


def typical_length(data: Dataset) -> float:
    """T counts in units of the score, so it follows the vectors' length where they differ in it."""
    if data.metric != "l2":
        return 1.0
    sample = floats(data.base[:: max(1, len(data.base) // 1000)])
    return float((sample**2).sum(axis=1).mean() ** 0.5)


def variants(nlist: int, length: float, options: Options) -> list[Variant]:
    """Every index of a set."""
    more = f",{options.more}" if options.more else ""

    def variant(parameter: str, value: float, text: str) -> Variant:
        return Variant(parameter, value, f"IVF{nlist},ScaNN({text}{more})")

    return [variant("eta", eta, f"eta={eta:g}") for eta in options.etas] + [
        variant("T", t, f"threshold={t * length:g}") for t in options.thresholds
    ]


def measure(name: str, options: Options) -> list[ThresholdPoint]:
    """One point an index: recall@k of all queries."""
    data = load_chosen(name, options)
    nlist = options.nlist or usual_nlist(len(data.base))
    nprobe = min(options.nprobe or nlist, nlist)
    length = typical_length(data)
    del data
    task = task_for(name, options)
    setting = {"nprobe": nprobe, "reorder_k": options.k, "refine_k": options.k}
    found = []
    for variant in variants(nlist, length, options):
        got = recalls("ours", variant.factory, task, [setting], options.timeout, options.out / "threshold.log")
        recall = got.found[0] if got.found else None
        found.append(
            ThresholdPoint(
                set=name,
                parameter=variant.parameter,
                value=variant.value,
                factory=variant.factory,
                nprobe=nprobe,
                length=length,
                k=options.k,
                recall=recall,
                reason=got.reason,
            )
        )
    return found


def by_set(measured: Sequence[ThresholdPoint], parameter: str) -> dict[str, dict[float, float]]:
    """Recall by set and value of eta or T."""
    found: dict[str, dict[float, float]] = {}
    for p in measured:
        if p.parameter == parameter and p.recall is not None:
            found.setdefault(p.set, {})[p.value] = p.recall
    return found


def cell(recalls_of_set: dict[float, float], value: float) -> str | None:
    """A recall; the best of its column stands out."""
    recall = recalls_of_set.get(value)
    if recall is None:
        return None
    return f"**{recall:.4f}**" if recall == max(recalls_of_set.values()) else f"{recall:.4f}"


def value_table(parameter: str, found: dict[str, dict[float, float]]) -> str:
    """Rows are values, columns are sets."""
    values = sorted({value for one in found.values() for value in one})
    rows = [[f"{value:g}", *(cell(one, value) for one in found.values())] for value in values]
    return table([parameter, *found], rows)


def run(options: Options) -> None:
    """All sets: points, tables and plots."""
    measured: list[ThresholdPoint] = []
    for name in options.sets:
        print(name, flush=True)
        measured += measure(name, options)
    points.write(options.out / "threshold.jsonl", map(points.as_line, measured))
    parts = [
        "No refine codes, no raw rows. T is given for unit vectors and multiplied by the set's typical\n"
        "length (root mean square) where they are longer. Bold: best of the column."
    ]
    curves = {parameter: by_set(measured, parameter) for parameter in AXES}
    parts += [value_table(parameter, found) for parameter, found in curves.items() if found]
    failures = [[p.set, p.factory, reason_cell(p.reason)] for p in measured if p.reason]
    if failures:
        parts.append(table(["failed", "factory", "reason"], failures))
    publish(options.out / "threshold.md", f"Recall@{options.k} of the codes alone", parts)
    if not plots.available():
        return
    for parameter, found in curves.items():
        if found:
            series = {name: plots.Series(sorted(one), [one[v] for v in sorted(one)]) for name, one in found.items()}
            titles = plots.Titles("Recall of the codes alone", AXES[parameter], f"recall@{options.k}")
            plots.lines(series, titles, options.out / f"threshold-{parameter}", log_x=parameter == "eta")
