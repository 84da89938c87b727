"""The end of tests/run: what became of every part, the slowest tests, how many passed.

In:  a folder with PART.part (a line for each thing that happened to the part) and
     PART.xml, PART.*.xml (JUnit, from ctest and pytest); the parts.
Out: tables on the screen; exit code 0 if nothing failed, else 1.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as xml
from dataclasses import dataclass, field
from pathlib import Path

SLOWEST = 20
SKIPPED = "skipped: "  # begins the line of a part that has nothing to do here


@dataclass
class Part:
    """Counts of one part; a part that failed by itself is one failure more."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    tests: list[tuple[float, str]] = field(default_factory=list)  # seconds, name
    remarks: list[str] = field(default_factory=list)

    def says(self) -> str:
        if not self.failed and not self.passed and self.skipped and self.remarks:
            return self.remarks[0]
        word = "failed" if self.failed else "passed"
        counts = f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"
        return "; ".join([f"{word}: {counts}", *self.remarks])


def failed(case: xml.Element) -> bool:
    """CTest calls skipped, too, what it could not start."""
    skip = case.find("skipped")
    lost = case.get("status") == "notrun" and skip is not None and not skip.get("message", "").startswith("SKIP_")
    return lost or case.find("failure") is not None or case.find("error") is not None


def add_results(part: Part, path: Path) -> None:
    """The tests of one file; a file that is no XML is what a killed runner left."""
    try:
        cases = list(xml.parse(path).iter("testcase"))
    except xml.ParseError as error:
        part.failed += 1
        part.remarks.append(f"{path.name}: {error}")
        return
    for case in cases:
        file = (case.get("classname") or "").rpartition(".")[2]
        name = case.get("name", "?")
        part.tests.append((float(case.get("time") or 0), name if file in ("", name) else f"{file}::{name}"))
        if failed(case):
            part.failed += 1
        elif case.find("skipped") is not None:
            part.skipped += 1
        else:
            part.passed += 1


def read(folder: Path, name: str) -> Part:
    """All that is known about a part."""
    part = Part(name)
    for path in sorted([*folder.glob(f"{name}.xml"), *folder.glob(f"{name}.*.xml")]):
        add_results(part, path)
    report = folder / f"{name}.part"
    lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
    if not lines:
        lines = ["ended before its tests"]
    for line in lines:
        if line.startswith(SKIPPED):
            part.skipped += 1
        elif line == "tests failed":
            if part.failed:
                continue  # these are counted
            part.failed += 1
        elif line != "ran":
            part.failed += 1
        else:
            continue
        part.remarks.append(line)
    if not part.passed and not part.failed and not part.skipped:
        part.failed += 1
        part.remarks.append("no test ran")
    return part


def main(folder: str, names: list[str]) -> int:
    """Prints everything; the exit code."""
    parts = [read(Path(folder), name) for name in names]
    tests = sorted(((seconds, part.name, name) for part in parts for seconds, name in part.tests), reverse=True)
    print(f"== {len(tests)} tests took {sum(seconds for seconds, _, _ in tests):.0f} seconds in all; the slowest:")
    for seconds, part, name in tests[:SLOWEST]:
        print(f"{seconds:8.1f}  {part:7} {name[:100]}")
    print("== parts")
    for part in parts:
        print(f"   {part.name:7} {part.says()}")
    failures = sum(part.failed for part in parts)
    print(f"tests: {sum(part.passed for part in parts)} passed, {failures} failed, "
          f"{sum(part.skipped for part in parts)} skipped")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
