"""SIFT descriptors of pictures, kept a file a package; the rows and queries of a set from many.

In:  picture files as bytes (debian_pictures.py).
Out: a .npz file a package with the descriptors of its pictures; then Collected:
     base rows and queries without duplicates. Everything that is drawn at random
     follows from what a picture shows, so that neither the order of the pictures
     nor the number of processes matters.
"""

from __future__ import annotations

import hashlib
import importlib
import signal
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.datasets import Bytes, Flags
from bench.folders import written_whole

WIDTH = 128
MOST = 50_000  # descriptors that are kept of a picture
LEAST_SIDE = 64  # pixels: smaller pictures are icons
LOOK = 16  # a picture's look is LOOK x LOOK signs of differences
ALIKE = 12  # signs: pictures that differ in at most so many are one picture, scaled or saved again
QUERY_SHARE = 16  # one picture in so many gives queries, the others rows
DIGEST = 16  # bytes of a picture's hash

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Picture:
    """What is kept of a picture."""

    digest: bytes  # of its grey values
    look: Flags  # (LOOK * LOOK,)
    pixels: int  # of the file
    rows: Bytes  # (n, WIDTH), in random order


def describe(file: bytes, side: int) -> Picture | None:
    """The descriptors of a picture, grey, longer side at most `side` pixels; None if it is no picture or an icon."""
    cv2: Any = importlib.import_module("cv2")
    cv2.setNumThreads(1)  # the caller has a process a core
    try:
        grey: Any = cv2.imdecode(np.frombuffer(file, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error:  # larger than OpenCV reads
        return None
    if grey is None or min(grey.shape) < LEAST_SIDE:
        return None
    pixels, scale = grey.size, side / max(grey.shape)
    if scale < 1:
        height, width = (max(1, round(v * scale)) for v in grey.shape)
        grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
    digest = hashlib.blake2b(repr(grey.shape).encode() + grey.tobytes(), digest_size=DIGEST).digest()
    small = cv2.resize(grey, (LOOK + 1, LOOK), interpolation=cv2.INTER_AREA).astype(np.int16)
    _, found = cv2.SIFT_create().detectAndCompute(grey, None)
    rows = np.zeros((0, WIDTH), dtype=np.uint8) if found is None else found.astype(np.uint8)  # its values are integers
    rows = np.unique(rows[rows.any(axis=1)], axis=0)
    order = np.random.default_rng(list(digest)).permutation(len(rows))[:MOST]
    return Picture(digest, (small[:, 1:] > small[:, :-1]).reshape(-1), pixels, rows[order])


def ignore_interrupts() -> None:
    """Of a process that describes pictures: Ctrl-C is its parent's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def described(files: Iterable[bytes], side: int, pool: Executor, window: int) -> Iterator[Picture]:
    """The pictures of `files` in their order, at most `window` files in memory."""
    waiting: deque[Future[Picture | None]] = deque()
    for file in files:
        waiting.append(pool.submit(describe, file, side))
        if len(waiting) >= window:
            picture = waiting.popleft().result()
            if picture:
                yield picture
    for future in waiting:
        picture = future.result()
        if picture:
            yield picture


@dataclass
class Pictures:
    """All pictures of a package, the largest first."""

    digests: Bytes  # (m, DIGEST)
    looks: Flags  # (m, LOOK * LOOK)
    pixels: NDArray[np.int64]  # (m,)
    ends: NDArray[np.int64]  # (m,): the rows of picture i end at ends[i]
    rows: Bytes  # (ends[-1], WIDTH)

    def rows_of(self, i: int, most: int) -> Bytes:
        """At most `most` rows of picture i."""
        begin = int(self.ends[i - 1]) if i else 0
        return self.rows[begin : min(int(self.ends[i]), begin + most)]


def together(found: Iterable[Picture]) -> Pictures:
    """The pictures with descriptors, the largest first, of equal size by their hash."""
    ordered = sorted((p for p in found if len(p.rows)), key=lambda p: (-p.pixels, p.digest))
    return Pictures(
        digests=np.frombuffer(b"".join(p.digest for p in ordered), dtype=np.uint8).reshape(-1, DIGEST),
        looks=np.array([p.look for p in ordered], dtype=bool).reshape(-1, LOOK * LOOK),
        pixels=np.array([p.pixels for p in ordered], dtype=np.int64),
        ends=np.cumsum([len(p.rows) for p in ordered], dtype=np.int64),
        rows=np.concatenate([np.zeros((0, WIDTH), dtype=np.uint8), *(p.rows for p in ordered)]),
    )


def kept(path: Path, make: Callable[[], Pictures]) -> Pictures:
    """What the file `path` holds; of make() if there is none, or none that can be read."""
    try:
        with np.load(path) as file:
            return Pictures(**file)
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile):
        pass
    made = make()
    with written_whole(path) as file:
        np.savez(file, **vars(made))
    return made


def gives_queries(digest: Bytes) -> bool:
    """Whether a picture's descriptors are queries; its own hash decides."""
    return int(digest[0]) % QUERY_SHARE == 0


def row_hashes(rows: Bytes) -> Hashes:
    """(n,): equal rows have equal ones; of 10 million others two are equal with probability 3e-6."""
    words = np.ascontiguousarray(rows).view("<u8")
    factors: Hashes = np.asarray(np.random.default_rng(0).integers(1 << 63, size=words.shape[1]), dtype=np.uint64)
    found = np.zeros(len(rows), dtype=np.uint64)
    for i in range(words.shape[1]):
        found = (found ^ words[:, i]) * (2 * factors[i] + np.uint64(1))  # odd: nothing is lost
        found ^= found >> np.uint64(29)
    return found


@dataclass
class Part:
    """Rows of some pictures, those that occur twice once, and not those of other parts."""

    rows: list[Bytes] = field(default_factory=list)
    hashes: Hashes = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    count: int = 0

    def add(self, rows: Bytes) -> None:
        """Those of `rows` that are not here yet."""
        hashes, first = np.unique(row_hashes(rows), return_index=True)
        new = ~np.isin(hashes, self.hashes)
        fresh = rows[np.sort(first[new])]
        self.hashes = np.concatenate([self.hashes, hashes[new]])
        self.rows.append(fresh)
        self.count += len(fresh)


@dataclass
class Collected:
    """Base rows and queries of packages; what was seen in an earlier one is left out."""

    per_picture: int
    base: Part = field(default_factory=Part)
    query: Part = field(default_factory=Part)
    looks: list[NDArray[np.float32]] = field(default_factory=list)  # of every picture, -1 and 1
    pictures: dict[str, int] = field(default_factory=lambda: {"base": 0, "query": 0, "left out": 0})

    def take(self, found: Pictures) -> None:
        """The pictures of one package."""
        new = self._new(found)
        asks = np.array([gives_queries(digest) for digest in found.digests], dtype=bool)
        for name, part, chosen in (("query", self.query, new & asks), ("base", self.base, new & ~asks)):
            rows = [found.rows_of(int(i), self.per_picture) for i in np.flatnonzero(chosen)]
            self.pictures[name] += len(rows)
            if rows:
                part.add(np.concatenate(rows))
        self.pictures["left out"] += int((~new).sum())

    def _new(self, found: Pictures) -> Flags:
        """Whether no picture before looks the same, in `found` or in a package before."""
        looks = np.where(found.looks, np.float32(1), np.float32(-1))
        # the product of two looks is their length minus twice what differs
        same = LOOK * LOOK - 2 * ALIKE
        new = np.ones(len(looks), dtype=bool)
        for other in self.looks:
            new &= ~((looks @ other.T) >= same).any(axis=1)
        new &= ~np.tril((looks @ looks.T) >= same, -1).any(axis=1)
        self.looks.append(looks)
        return new

    def queries(self, most: int, rng: np.random.Generator) -> Bytes:
        """At most `most` of the queries that are no base rows, in random order."""
        rows = np.concatenate([np.zeros((0, WIDTH), dtype=np.uint8), *self.query.rows])
        rows = rows[~np.isin(row_hashes(rows), self.base.hashes)]
        return rows[rng.permutation(len(rows))[:most]]


def write_rows(path: Path, parts: list[Bytes], order: NDArray[np.int64], piece: int = 1 << 16) -> None:
    """A .u8bin file of the rows of `parts` in this order; it appears when it is whole."""
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
    with written_whole(path) as file:
        file.write(np.array([len(order), WIDTH], dtype="<u4").tobytes())
        for begin in range(0, len(order), piece):
            file.write(rows[order[begin : begin + piece]].tobytes())
