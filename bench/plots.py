"""Drawings of the benchmarks, PNG and SVG, without a display.

In: points as report.py reads them. Every curve is labelled at its end, so no
legend has to be matched by colour; ours is thick and orange, peers are calm.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

# pylint: disable=wrong-import-position
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib import ticker  # noqa: E402

import engines  # noqa: E402
import report  # noqa: E402

OURS = "#d9480f"
# Muted and apart in lightness as well: readable in grey and by most eyes.
PEERS = "#1f5fa8 #3a8f5c #7a5ea8 #8a6d3b #2b9aa8 #a8487b #5f6b76 #9aa51e #444444".split()
# Points above differ by a handful of answers: not worth a third of the width.
HIGH = 0.998
plt.rcParams.update(
    {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.titlesize": 12,
        "svg.fonttype": "none",
        "svg.hashsalt": "bench",
        "figure.constrained_layout.use": True,
    }
)


def colours(names) -> dict[str, str]:
    """A colour for every name, the same in every plot; "ours..." stands out."""
    known = [name for name in engines.ENGINES if not name.startswith("ours")]
    others = sorted(set(names) - set(known))
    found = {name: PEERS[i % len(PEERS)] for i, name in enumerate(known + others)}
    return {name: OURS if name.startswith("ours") else found[name] for name in names}


def save(figure, stem) -> list[Path]:
    """Writes stem.png and stem.svg."""
    Path(stem).parent.mkdir(parents=True, exist_ok=True)
    paths = [Path(f"{stem}.png"), Path(f"{stem}.svg")]
    for path in paths:
        figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
    return paths


def label_ends(axes, ends, gap: float = 0.045) -> None:
    """Writes names right of the axes; `ends`: (y, name, colour, x) where
    each curve stops, in data units.

    Labels keep their order and at least `gap` of the axes' height between them.
    """
    axes.figure.canvas.draw()
    to_axes = axes.transData + axes.transAxes.inverted()
    x = axes.get_xlim()[1]
    placed = sorted(
        (float(to_axes.transform((x, y))[1]), name, colour, px, y) for y, name, colour, px in ends
    )
    height = -1.0
    spots = []
    for at, name, colour, px, y in placed:
        height = max(at, height + gap, 0.0)
        spots.append([height, name, colour, px, y])
    # What was pushed above the top comes down again, pushing the others.
    top = 1.0
    for spot in reversed(spots):
        spot[0] = min(spot[0], top)
        top = spot[0] - gap
    for at, name, colour, px, y in spots:
        axes.annotate(
            name,
            xy=(px, y),
            xycoords="data",
            xytext=(1.03, at),
            textcoords="axes fraction",
            va="center",
            color=colour,
            fontweight="bold" if name.startswith("ours") else "normal",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "lw": 0.6,
                "alpha": 0.6,
                "shrinkA": 2,
                "shrinkB": 3,
            },
        )


def finished(figure, axes, ends, title: str, x_label: str, y_label: str, stem) -> list[Path]:
    """Titles, labels at the ends of the curves, and the files."""
    axes.set_axisbelow(True)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title)
    label_ends(axes, ends)
    return save(figure, stem)


def speed_curves(
    points, mode: str, title: str, stem, low: float = 0.75, y_label: str = "queries per second, one thread"
) -> list[Path]:
    """QPS (log) over recall, one Pareto front an engine; recall from `low`.

    The recall axis is stretched towards 1 by -log10(1 - recall): the steps from
    .9 to .99 decide between engines and would else share a tenth of the width.
    """
    groups = {
        name: [p for p in report.front(g) if low <= p["recall"] <= HIGH]
        for name, g in report.by_engine(p for p in points if p["mode"] == mode).items()
    }
    groups = {name: g for name, g in groups.items() if g}
    if not groups:
        return []
    shade = colours(groups)
    figure, axes = plt.subplots(figsize=(9, 5.4))

    def place(recall):
        return -math.log10(max(10**-3.3, 1 - recall))

    ends = []
    for name, group in groups.items():
        ours = name.startswith("ours")
        x, y = [place(p["recall"]) for p in group], [p["qps"] for p in group]
        axes.plot(
            x,
            y,
            color=shade[name],
            lw=3 if ours else 1.5,
            marker="o",
            ms=5 if ours else 3.2,
            zorder=4 if ours else 3,
            alpha=1 if ours else 0.9,
        )
        ends.append((y[-1], name, shade[name], x[-1]))
    ticks = [t for t in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995) if t >= low]
    axes.set_yscale("log")
    axes.set_xticks([place(t) for t in ticks], [f"{t:g}" for t in ticks])
    axes.set_xlim(place(low), min(place(HIGH), max(e[3] for e in ends)) + 0.03)
    axes.grid(True, which="major", color="#dddddd", lw=0.7)
    axes.grid(True, which="minor", axis="y", color="#eeeeee", lw=0.5)
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    k = next(iter(groups.values()))[0]["k"]
    return finished(figure, axes, ends, title, f"recall@{k}", y_label, stem)


def lines(series, title: str, x_label: str, y_label: str, stem, log_x: bool = False) -> list[Path]:
    """Plain labelled curves; series: {name: (x values, y values)}, best marked."""
    figure, axes = plt.subplots(figsize=(8, 4.8))
    ends = []
    for i, (name, (x, y)) in enumerate(series.items()):
        colour = [OURS] + PEERS
        colour = colour[i % len(colour)]
        axes.plot(x, y, color=colour, lw=2, marker="o", ms=4)
        best = max(range(len(y)), key=y.__getitem__)
        axes.plot(x[best], y[best], marker="o", ms=10, mfc="none", mec=colour, mew=1.5)
        ends.append((y[-1], name, colour, x[-1]))
    if log_x:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.grid(True, color="#dddddd", lw=0.7)
    return finished(figure, axes, ends, title, x_label, y_label, stem)


def growth(series, title: str, x_label: str, y_label: str, stem) -> list[Path]:
    """Labelled curves on logarithms of both; series: {name: (x values, y values)}."""
    shade = colours(series)
    figure, axes = plt.subplots(figsize=(8, 4.8))
    ends = []
    for name, (x, y) in series.items():
        ours = name.startswith("ours")
        axes.plot(x, y, color=shade[name], lw=3 if ours else 1.5, marker="o", ms=5 if ours else 3.2)
        ends.append((y[-1], name, shade[name], x[-1]))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(True, which="both", color="#dddddd", lw=0.7)
    return finished(figure, axes, ends, title, x_label, y_label, stem)
