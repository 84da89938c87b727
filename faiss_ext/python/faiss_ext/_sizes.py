"""Numbers and sizes as callers write them. In: 2_000_000_000 or "2GB". Out: checked integers."""

from __future__ import annotations

import operator
import re

_UNITS = {"": 1, "b": 1} | {
    f"{letter}{binary}b": base**power
    for power, letter in enumerate("kmgt", 1)
    for binary, base in (("", 1000), ("i", 1024))
}


def whole_number(name: str, value: int, largest: int = 2**63 - 1) -> int:
    """Check the argument `name`."""
    number = operator.index(value)
    if not 0 <= number <= largest:
        raise ValueError(f"{name} is {number} (allowed: 0..{largest})")
    return number


def bytes_of(name: str, size: int | str) -> int:
    """2GB -> 2000000000."""
    if not isinstance(size, str):
        return whole_number(name, size)
    parts = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([A-Za-z]*)\s*", size)
    if not parts or parts[2].lower() not in _UNITS:
        raise ValueError(f"{name} = {size!r} (allowed: bytes, as a number or such as '2GB', '1.5GiB')")
    return whole_number(name, int(float(parts[1]) * _UNITS[parts[2].lower()]))
