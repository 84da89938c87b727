"""Drawings of the benchmarks, PNG and SVG, without a display.

In: points as points.py reads them. Every curve is labelled at its end, so no
legend has to be matched by colour; ours is thick and orange, peers are calm.
Without matplotlib `available` is false, and tables come without drawings.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.engines import ENGINES
from bench.points import HasSpeed, front, stretched

OURS = "#d9480f"
# Where rows change: ours with and without maintenance, and what they are compared with.
CHANGING = {"ours": "#f2a071", "ours-maintained": OURS, "ours-auto": "#7d2b07", "rebuilt": "#111111"}
# Muted and apart in lightness as well: readable in grey and by most eyes.
PEERS = ("#1f5fa8", "#3a8f5c", "#7a5ea8", "#8a6d3b", "#2b9aa8", "#a8487b", "#5f6b76", "#9aa51e", "#444444")
# Points above differ by a handful of answers: not worth a third of the width.
HIGH = 0.998
NEAREST = 10**-3.3  # of recall to 1, that is drawn
TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
LABEL_GAP = 0.045  # between labels, of the axes' height
STYLE = {
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


@dataclass(frozen=True)
class Series:
    """A curve: values of both axes."""

    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Titles:
    """Texts around a drawing."""

    title: str
    x: str
    y: str


@dataclass
class _Label:
    """A name right of the axes, for the curve that ends at (x, y) in data units."""

    name: str
    colour: str
    x: float
    y: float
    height: float = 0.0  # of the label, in parts of the axes


def available() -> bool:
    """Whether there is matplotlib; says so where there is none."""
    if importlib.util.find_spec("matplotlib") is not None:
        return True
    print("no plots: matplotlib is not installed", file=sys.stderr)
    return False


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(STYLE)
    return plt


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for every name, the same in every plot; "ours..." stands out."""
    listed = list(names)
    known = [name for name in ENGINES if not name.startswith("ours")]
    others = sorted(set(listed) - set(known))
    found = {name: PEERS[i % len(PEERS)] for i, name in enumerate(known + others)}
    return {name: OURS if name.startswith("ours") else found[name] for name in listed}


def _spread(labels: list[_Label]) -> None:
    """Heights of labels in their order, at least LABEL_GAP apart and below the top."""
    height = -1.0
    for label in labels:
        height = label.height = max(label.height, height + LABEL_GAP, 0.0)
    # What was pushed above the top comes down again, pushing the others.
    top = 1.0
    for label in reversed(labels):
        label.height = min(label.height, top)
        top = label.height - LABEL_GAP


def _label_ends(axes: Any, labels: list[_Label]) -> None:
    """Writes the names, each with a thin line to its curve."""
    axes.figure.canvas.draw()
    to_axes = axes.transData + axes.transAxes.inverted()
    right = axes.get_xlim()[1]
    for label in labels:
        label.height = float(to_axes.transform((right, label.y))[1])
    labels.sort(key=lambda label: label.height)
    _spread(labels)
    for label in labels:
        line = {"arrowstyle": "-", "color": label.colour, "lw": 0.6, "alpha": 0.6, "shrinkA": 2, "shrinkB": 3}
        axes.annotate(
            label.name,
            xy=(label.x, label.y),
            xycoords="data",
            xytext=(1.03, label.height),
            textcoords="axes fraction",
            va="center",
            color=label.colour,
            fontweight="bold" if label.name.startswith("ours") else "normal",
            annotation_clip=False,
            arrowprops=line,
        )


def _entitle(axes: Any, titles: Titles) -> None:
    """The texts around the axes."""
    axes.set_axisbelow(True)
    axes.set_xlabel(titles.x)
    axes.set_ylabel(titles.y)
    axes.set_title(titles.title)


def _finish(plt: Any, axes: Any, labels: list[_Label], titles: Titles, stem: Path) -> list[Path]:
    """Titles, labels at the ends of the curves, and stem.png and stem.svg."""
    _entitle(axes, titles)
    _label_ends(axes, labels)
    return _save(plt, axes.figure, stem)


def _save(plt: Any, figure: Any, stem: Path) -> list[Path]:
    """stem.png and stem.svg."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [Path(f"{stem}.png"), Path(f"{stem}.svg")]
    for path in paths:
        figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
    return paths


def _curve(axes: Any, name: str, colour: str, series: Series) -> _Label:
    """One curve, and the label for its end."""
    ours = name.startswith("ours")
    axes.plot(
        series.x,
        series.y,
        color=colour,
        lw=3 if ours else 1.5,
        marker="o",
        ms=5 if ours else 3.2,
        zorder=4 if ours else 3,
        alpha=1 if ours else 0.9,
    )
    return _Label(name, colour, series.x[-1], series.y[-1])


def _recall_axes(axes: Any, low: float, right: float) -> None:
    """Recall stretched towards 1, queries per second by their logarithm."""
    from matplotlib import ticker

    ticks = [t for t in TICKS if t >= low]
    axes.set_yscale("log")
    axes.set_xticks([stretched(t, NEAREST) for t in ticks], [f"{t:g}" for t in ticks])
    axes.set_xlim(stretched(low, NEAREST), min(stretched(HIGH, NEAREST), right) + 0.03)
    axes.grid(True, which="major", color="#dddddd", lw=0.7)
    axes.grid(True, which="minor", axis="y", color="#eeeeee", lw=0.5)
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def speed_curves(groups: Mapping[str, Sequence[HasSpeed]], titles: Titles, stem: Path, low: float = 0.75) -> list[Path]:
    """QPS (log) over recall, one Pareto front an engine; recall from `low`.

    The recall axis is stretched towards 1: the steps from .9 to .99 decide
    between engines and would else share a tenth of the width.
    """
    fronts = {name: [p for p in front(group) if low <= p.recall <= HIGH] for name, group in groups.items()}
    fronts = {name: group for name, group in fronts.items() if group}
    if not fronts:
        return []
    plt = _pyplot()
    shade = colours(fronts)
    _, axes = plt.subplots(figsize=(9, 5.4))
    labels = [
        _curve(axes, name, shade[name], Series([stretched(p.recall, NEAREST) for p in group], [p.qps for p in group]))
        for name, group in fronts.items()
    ]
    _recall_axes(axes, low, max(label.x for label in labels))
    return _finish(plt, axes, labels, titles, stem)


def lines(curves: Mapping[str, Series], titles: Titles, stem: Path, log_x: bool = False) -> list[Path]:
    """Plain labelled curves, the best point of each marked."""
    plt = _pyplot()
    _, axes = plt.subplots(figsize=(8, 4.8))
    palette = (OURS, *PEERS)
    labels = []
    for i, (name, series) in enumerate(curves.items()):
        colour = palette[i % len(palette)]
        axes.plot(series.x, series.y, color=colour, lw=2, marker="o", ms=4)
        best = max(range(len(series.y)), key=series.y.__getitem__)
        axes.plot(series.x[best], series.y[best], marker="o", ms=10, mfc="none", mec=colour, mew=1.5)
        labels.append(_Label(name, colour, series.x[-1], series.y[-1]))
    if log_x:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(True, color="#dddddd", lw=0.7)
    return _finish(plt, axes, labels, titles, stem)


def growth(curves: Mapping[str, Series], titles: Titles, stem: Path) -> list[Path]:
    """Labelled curves on logarithms of both axes."""
    plt = _pyplot()
    shade = colours(curves)
    _, axes = plt.subplots(figsize=(8, 4.8))
    labels = [_curve(axes, name, shade[name], series) for name, series in curves.items()]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(True, which="both", color="#dddddd", lw=0.7)
    return _finish(plt, axes, labels, titles, stem)


@dataclass(frozen=True)
class Panel:
    """Curves with an axis of their own; `notes` are set behind the names."""

    y: str
    curves: Mapping[str, Series]
    notes: Mapping[str, str] = field(default_factory=dict)
    from_zero: bool = False


def over_steps(panels: Sequence[Panel], titles: Titles, stem: Path) -> list[Path]:
    """Panels of labelled curves, one below the other, over the same steps."""
    plt = _pyplot()
    figure, stacked = plt.subplots(len(panels), sharex=True, figsize=(9, 1.2 + 3.4 * len(panels)), squeeze=False)
    drawn = list(zip(stacked[:, 0], panels))
    for axes, panel in drawn:
        for name, shade in {**colours(panel.curves), **CHANGING}.items():
            if name in panel.curves:
                _steps(axes, name, shade, panel.curves[name])
        axes.grid(True, color="#dddddd", lw=0.7)
        if panel.from_zero:
            axes.set_ylim(bottom=0)
        first, last = panel is panels[0], panel is panels[-1]
        _entitle(axes, Titles(titles.title if first else "", titles.x if last else "", panel.y))
    for axes, panel in drawn:
        shades = {**colours(panel.curves), **CHANGING}
        ends = [(name, series.x[-1], series.y[-1]) for name, series in panel.curves.items()]
        _label_ends(
            axes, [_Label(f"{name}  {panel.notes.get(name, '')}".strip(), shades[name], x, y) for name, x, y in ends]
        )
    return _save(plt, figure, stem)


def _steps(axes: Any, name: str, colour: str, series: Series) -> None:
    """One curve: ours thick, the one that others are compared with dashed."""
    reference, ours = name == "rebuilt", name.startswith("ours")
    axes.plot(
        series.x,
        series.y,
        color=colour,
        lw=2.4 if ours else 1.5,
        ls=(0, (2, 1.5)) if reference else "-",
        marker="" if reference else "o",
        ms=4 if ours else 2.5,
        zorder=5 if reference else 4 if ours else 3,
    )
