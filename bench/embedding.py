"""Texts through a model, in pieces that a run which was stopped finds again.

In:  token ids of the texts of a set, a model (text_models.py).
Out: rows in the order of the texts. Until the set is whole each piece is a file
     in a folder: texts of like lengths, since texts of one length go through the
     model together.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.datasets import Floats
from bench.folders import written_whole

PIECE = 1024  # texts a file: a minute of MPNet on one thread
BATCH = 1024  # tokens that go through the model together

Tokens = Sequence[Sequence[int]]
Embed = Callable[[NDArray[np.int64]], Floats]  # ids (n, length) -> (n, width)


def fingerprint(model: Path, kind: str, *parts: Tokens) -> str:
    """Of everything that decides what is in the pieces: the model's file, numbers, texts as ids in their order."""
    state = hashlib.blake2b(f"{kind} {PIECE} {BATCH}".encode(), digest_size=16)
    with open(model, "rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    for tokens in parts:
        for ids in ([len(tokens)], *tokens):
            state.update(np.array([len(ids), *ids], dtype="<i8").tobytes())
    return state.hexdigest()


@dataclass
class Progress:
    """How much is left of all parts of a set, by tokens: a text's time grows with its length."""

    tokens: int
    texts: int
    started: float = field(default_factory=time.monotonic)
    done_tokens: int = 0
    done_texts: int = 0
    found_tokens: int = 0  # of pieces that an earlier run has made

    @classmethod
    def of(cls, *parts: Tokens) -> Progress:
        return cls(sum(len(ids) for tokens in parts for ids in tokens), sum(map(len, parts)))

    def add(self, batch: Tokens, found: bool) -> None:
        tokens = sum(len(ids) for ids in batch)
        self.done_texts += len(batch)
        self.done_tokens += tokens
        self.found_tokens += tokens if found else 0
        if not found:
            end = "" if sys.stderr.isatty() else "\n"
            begin = "\r\033[K" if sys.stderr.isatty() else ""
            print(f"{begin}  {self.line()}", end=end, file=sys.stderr, flush=True)

    def line(self) -> str:
        """'2,048 of 117,648 texts, 1 % of the tokens, 95 min left'"""
        made = max(1, self.done_tokens - self.found_tokens)
        left = (time.monotonic() - self.started) * (self.tokens - self.done_tokens) / made
        share = 100 * self.done_tokens / max(1, self.tokens)
        return f"{self.done_texts:,} of {self.texts:,} texts, {share:.0f} % of the tokens, {left / 60:.0f} min left"


def batches(tokens: Tokens, chosen: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """`chosen`, which are in order of length, cut into texts of one length, BATCH tokens or one text."""
    lengths = np.array([len(tokens[i]) for i in chosen])
    for same in np.split(chosen, np.flatnonzero(np.diff(lengths)) + 1):
        step = max(1, BATCH // len(tokens[same[0]]))
        for begin in range(0, len(same), step):
            yield same[begin : begin + step]


class Pieces:
    """A folder with the rows that were made so far of one set."""

    def __init__(self, folder: Path, fingerprint: str):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        known = folder / "fingerprint"
        if not known.exists():
            with written_whole(known) as file:
                file.write(fingerprint.encode())
        elif known.read_text() != fingerprint:
            raise ValueError(
                f"{folder} is of other texts, another model or seed (allowed: the same, which goes on there, "
                "or none: remove the folder)"
            )

    def rows(self, name: str, tokens: Tokens, embed: Embed, dtype: str, progress: Progress) -> NDArray[Any]:
        """(len(tokens), width) of `dtype`: what is there is read, the rest made."""
        order = np.argsort([len(ids) for ids in tokens], kind="stable")
        pieces = []
        for number, begin in enumerate(range(0, len(order), PIECE)):
            path, chosen = self.folder / f"{name}-{number:05}.npy", order[begin : begin + PIECE]
            found = path.exists()
            if not found:
                made = [embed(np.array([tokens[i] for i in batch])) for batch in batches(tokens, chosen)]
                with written_whole(path) as file:
                    np.save(file, np.concatenate(made).astype(dtype))
            pieces.append(np.load(path))
            progress.add([tokens[i] for i in chosen], found)
        by_length = np.concatenate(pieces)
        rows = np.empty_like(by_length)
        rows[order] = by_length
        return rows

    def remove(self) -> None:
        """When the set is whole."""
        shutil.rmtree(self.folder)
