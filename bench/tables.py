"""Tables in Markdown and on the screen; the head and the file of a report."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.points import Parameters


def cpu_model() -> str:
    """Name of the processor; virtual machines shorten it, so family and model too."""
    fields: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    except OSError:
        return platform.processor() or platform.machine()
    name = fields.get("model name", platform.machine())
    return f"{name} (family {fields.get('cpu family', '?')} model {fields.get('model', '?')})"


def today() -> str:
    return time.strftime("%Y-%m-%d")


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Markdown; columns padded so that the source reads as well. None: '-'."""
    cells = [["-" if cell is None else str(cell) for cell in row] for row in (head, *rows)]
    width = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, width)) + " |" for row in cells]
    rule = "|" + "|".join("-" * (w + 2) for w in width) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def screen_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Aligned columns for a terminal, the first `left` of them to the left."""
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]
    lines = []
    for line in [head, ["-" * width for width in widths], *rows]:
        cells = [cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths))]
        lines.append("  " + "   ".join(cells).rstrip())
    return "\n".join(lines)


def parameters(given: Parameters) -> str:
    """Parameters as `name value` pairs; a lone factory string stands alone."""
    if set(given) == {"factory"}:
        return str(given["factory"])
    return " ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in given.items()
        if value is not None
    )


def whole(value: float | None) -> str:
    """1234.5 -> '1234', None -> '-'."""
    return "-" if value is None else f"{value:.0f}"


def megabytes(count: float) -> str:
    """10000000 -> '10.0'."""
    return f"{count / 1e6:.1f}"


def reason_cell(reason: str) -> str:
    """A reason that fits into a table."""
    return reason[:160].replace("|", "/").replace("\n", " ")


def failure_table(failures: Iterable[tuple[str, Parameters, str]]) -> str:
    """Engines without (all) points, their build, and why."""
    rows = [[engine, parameters(build), reason_cell(reason)] for engine, build, reason in failures]
    return table(["failed", "build", "reason"], rows)


def publish(path: Path, title: str, parts: Sequence[str], machine: str = "") -> None:
    """A report of these parts to `path` and to the screen; `machine`: machine and date, by default here and now."""
    text = "\n\n".join([f"# {title}", machine or f"{cpu_model()}, {today()}.", *parts]) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print("\n" + text, flush=True)
