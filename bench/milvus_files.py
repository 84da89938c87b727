"""Files in a Milvus server's storage."""

from __future__ import annotations

import re
from pathlib import Path


def original_size(file: Path) -> int:
    """Bytes of an index, or of a part of it, before Milvus has compressed it for its storage."""
    with open(file, "rb") as content:
        found = re.search(rb'"original_size":"(\d+)"', content.read(4096))
    if found is None:
        raise RuntimeError(f"{file} says no original_size")
    return int(found[1])
