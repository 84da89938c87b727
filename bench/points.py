"""Points of measurement: one JSON line each, Pareto fronts, Markdown tables.

In:  dictionaries with at least engine, recall, qps. Out: lines, fronts, text.
Next: plot.py draws what is reduced here.
"""

from __future__ import annotations

import json
import math
import platform
from pathlib import Path

TARGETS = (0.80, 0.90, 0.95, 0.98, 0.99)


def cpu_model() -> str:
    """Name of the processor; virtual machines shorten it, so family and model too."""
    fields = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    except OSError:
        return platform.processor() or platform.machine()
    name = fields.get("model name", platform.machine())
    return f"{name} (family {fields.get('cpu family', '?')} model {fields.get('model', '?')})"


def append(path, points) -> None:
    """Adds points to a JSON-lines file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as lines:
        for point in points:
            lines.write(json.dumps(point) + "\n")


def read(path) -> list[dict]:
    """Points of a JSON-lines file."""
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def front(points, slack: float = 0.0) -> list[dict]:
    """Points no other beats in recall and qps, by rising recall.

    With `slack` 0.1 a point also stays when it has 90 % of the qps of the best
    point at its recall or above: one noisy sweep must not decide alone.
    """
    kept, best = [], 0.0
    for point in sorted(points, key=lambda p: (-p["recall"], -p["qps"])):
        if point["qps"] > best * (1 - slack):
            kept.append(point)
            best = max(best, point["qps"])
    return kept[::-1]


def thin(points, most: int) -> list[dict]:
    """At most `most` of the points, spread evenly over -log(1 - recall).

    That scale gives .90 to .99 as much room as 0 to .90, where tables look.
    """
    if len(points) <= most:
        return list(points)
    place = [-math.log10(max(1e-4, 1 - p["recall"])) for p in points]
    low, high = min(place), max(place)
    chosen = set()
    for i in range(most):
        goal = low + (high - low) * i / (most - 1)
        free = [j for j in range(len(points)) if j not in chosen]
        chosen.add(min(free, key=lambda j: abs(place[j] - goal)))
    return [points[j] for j in sorted(chosen)]


def qps_at(points, target: float):
    """QPS at a recall, interpolated on log QPS along the front; None above it.

    Below the lowest recall of the front its fastest point counts as measured:
    it delivers more recall than asked.
    """
    line = front(points)
    above = [p for p in line if p["recall"] >= target]
    below = [p for p in line if p["recall"] < target]
    if not above:
        return None
    right = above[0]
    if not below:
        return right["qps"]
    left = below[-1]
    share = (target - left["recall"]) / (right["recall"] - left["recall"])
    return math.exp((1 - share) * math.log(left["qps"]) + share * math.log(right["qps"]))


def point_at(points, target: float):
    """The fastest measured point with at least this recall, or the best recall."""
    line = front(points)
    return next((p for p in line if p["recall"] >= target), line[-1] if line else None)


def words(params: dict) -> str:
    """Parameters as `name value` pairs; a lone factory string stands alone."""
    if set(params) == {"factory"}:
        return params["factory"]
    return " ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in params.items()
        if value is not None
    )


def table(head, rows) -> str:
    """Markdown; columns padded so that the source reads as well."""
    cells = [[str(c) for c in head]] + [
        ["-" if c is None else str(c) for c in row] for row in rows
    ]
    width = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, width)) + " |" for row in cells]
    rule = "|" + "|".join("-" * (w + 2) for w in width) + "|"
    return "\n".join([lines[0], rule] + lines[1:])


def by_engine(points) -> dict[str, list[dict]]:
    """Points grouped by engine, first seen first."""
    groups: dict[str, list[dict]] = {}
    for point in points:
        groups.setdefault(point["engine"], []).append(point)
    return groups


def whole(value):
    """1234.5 -> '1234', None -> '-'."""
    return "-" if value is None else f"{value:.0f}"


def speed_tables(points, mode: str, us: str = "ours") -> str:
    """QPS at TARGETS, the ratio ours/peer, and the parameters at .95, one mode."""
    groups = by_engine(p for p in points if p["mode"] == mode)
    at = {name: [qps_at(group, t) for t in TARGETS] for name, group in groups.items()}
    head = [f"{mode}: QPS at recall"] + [f"{t:.2f}" for t in TARGETS]
    order = sorted(at, key=lambda name: [-(v or 0) for v in at[name][2:3] + at[name][1::-1]])
    rows, settings = [], []
    for name in order:
        near = point_at(groups[name], 0.95)
        rows.append(
            [name]
            + [whole(v) for v in at[name]]
            + [f"{near['build_seconds']:.0f}", f"{near['memory_bytes'] / 1e6:.0f}"]
        )
        settings.append(
            [
                name,
                words(near["build"]),
                words(near["setting"]),
                f"{near['recall']:.4f}",
                whole(near["qps"]),
                whole(near.get("p50_us")),
                whole(near.get("p99_us")),
            ]
        )
    parts = [table(head + ["build s", "memory MB"], rows)]
    if us in at and len(at) > 1:
        ratios = []
        for name in order:
            if name != us:
                pairs = zip(at[us], at[name])
                ratios.append([name] + [f"{o / p:.2f}" if o and p else None for o, p in pairs])
        parts.append(table([f"{mode}: {us} / peer"] + [f"{t:.2f}" for t in TARGETS], ratios))
    parts.append(
        table(
            [
                f"{mode}: fastest with recall >= .95",
                "build",
                "search",
                "recall",
                "QPS",
                "p50 us",
                "p99 us",
            ],
            settings,
        )
    )
    return "\n\n".join(parts)


def build_table(builds) -> str:
    """Every build that was made: seconds, bytes as stored or reported, RSS."""
    rows = [
        [
            b["engine"],
            words(b["build"]),
            b["version"],
            f"{b['build_seconds']:.1f}",
            f"{b['build_cpu_seconds']:.1f}",
            b["build_threads"],
            f"{b['memory_bytes'] / 1e6:.1f}",
            b["memory_kind"],
            f"{b['rss_delta_bytes'] / 1e6:.1f}",
        ]
        for b in builds
    ]
    return table(
        [
            "engine",
            "build",
            "version",
            "seconds",
            "CPU seconds",
            "threads",
            "index MB",
            "found by",
            "RSS grew MB",
        ],
        rows,
    )


def failure_table(failures) -> str:
    """Engines without (all) points, and why."""
    return table(
        ["failed", "build", "reason"],
        [[f["engine"], words(f["build"]), f["reason"][:160].replace("|", "/")] for f in failures],
    )
