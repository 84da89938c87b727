"""Vectors under names, in an index that grows with them: what the adapters for LangChain and LlamaIndex share."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import faiss_ext as fx

RETRAIN = 4  # lists and codes are made anew when so many times the rows are there


def by_cosine(factory: str) -> str:
    """The factory string with the options of cosine, rows of zeros allowed."""
    found = re.search(r"\bS(?:caNN|CANN)(?:\d+x4)?(\(([^()]*)\))?", factory)
    if found is None:
        raise ValueError(f"factory {factory!r} (allowed: a string with ScaNN in it)")
    name = found[0][: len(found[0]) - len(found[1] or "")]
    options = ",".join(filter(None, [found[2], "normalize=1", "allow_zero=1"]))
    return f"{factory[: found.start()]}{name}({options}){factory[found.end() :]}"


class RowStore:
    """Rows under names, found by cosine; rows of zeros are similar to nothing."""

    def __init__(self, factory: str = "ScaNN"):
        by_cosine(factory)  # a wrong one is refused now, not with the first rows
        self.factory = factory
        self.index: fx.Index | None = None
        self.trained_rows = 0
        self.numbers: dict[str, int] = {}  # of the names, in the index
        self.names: dict[int, str] = {}
        self.next_number = 0

    def __len__(self) -> int:
        return len(self.numbers)

    def _new_index(self, d: int) -> fx.Index:
        return fx.index_factory(d, f"IDMap2,{by_cosine(self.factory)}", fx.METRIC_INNER_PRODUCT)

    def put(self, names: Sequence[str], rows: ArrayLike) -> None:
        """Adds rows, or replaces those of names that are there; of a name twice the last row counts."""
        x = np.asarray(rows, dtype=np.float32)
        if len(names) == 0:
            return
        if x.ndim != 2 or len(x) != len(names):
            raise ValueError(f"{len(names)} names, rows of shape {x.shape}")
        if self.index is not None and x.shape[1] != self.index.d:
            raise ValueError(f"rows of {x.shape[1]} dimensions (allowed: {self.index.d})")
        last = {name: i for i, name in enumerate(names)}
        x = np.ascontiguousarray(x[list(last.values())])
        numbers = np.arange(self.next_number, self.next_number + len(x), dtype=np.int64)
        index = self.index
        if index is None:
            index = self._new_index(x.shape[1])
            index.train(x)
            self.trained_rows = len(x)
        index.add_with_ids(x, numbers)
        self.index = index
        self.remove(list(last))
        self.next_number += len(x)
        self.numbers.update(zip(last, numbers.tolist()))
        self.names.update(zip(numbers.tolist(), last))
        if len(self) >= RETRAIN * self.trained_rows:
            self._retrain()

    def _retrain(self) -> None:
        assert self.index is not None
        numbers = np.fromiter(self.names, dtype=np.int64)
        rows = self.index.reconstruct_batch(numbers)
        index = self._new_index(self.index.d)
        index.train(rows)
        index.add_with_ids(rows, numbers)
        self.index, self.trained_rows = index, len(rows)

    def remove(self, names: Iterable[str]) -> None:
        """Removes rows; names that are not there are passed over."""
        gone = {name: self.numbers[name] for name in names if name in self.numbers}
        if gone and self.index is not None:
            self.index.remove_ids(np.fromiter(gone.values(), dtype=np.int64))
            for name, number in gone.items():
                del self.numbers[name], self.names[number]

    def nearest(
        self, query: ArrayLike, k: int, among: Iterable[str] | None = None, **search: Any
    ) -> list[tuple[str, float]]:
        """(name, cosine) of the k nearest rows, the best first; `among`: only these names."""
        if k < 1:
            raise ValueError(f"k = {k} (allowed: >= 1)")
        if among is not None:
            numbers = [self.numbers[name] for name in among if name in self.numbers]
            search["filter"] = np.asarray(numbers, dtype=np.int64)
            k = min(k, len(numbers))
        k = min(k, len(self))
        if self.index is None or k == 0:
            return []
        similarities, found = self.index.search(np.asarray(query, dtype=np.float32)[None], k, **search)
        return [(self.names[i], float(s)) for i, s in zip(found[0].tolist(), similarities[0]) if i >= 0]

    def vectors(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Rows of these names, as they were given."""
        if self.index is None:
            raise KeyError(names[0] if names else "no rows")
        return self.index.reconstruct_batch(np.asarray([self.numbers[name] for name in names], dtype=np.int64))

    def save(self, folder: str | Path, more: str = "") -> None:
        """Writes into a folder, with a text of the caller's; what ends early leaves what was saved before."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        rows = f"rows-{uuid.uuid4().hex}.scann"
        if self.index is not None:
            fx.write_index(self.index, place / rows)
        facts = {"factory": self.factory, "trained_rows": self.trained_rows, "next_number": self.next_number}
        facts.update(numbers=self.numbers, rows=rows if self.index is not None else None, more=more)
        part = place / "names.json.part"
        part.write_text(json.dumps(facts), encoding="utf-8")
        part.replace(place / "names.json")  # from here on the new rows count
        for file in place.glob("rows-*.scann"):
            if file.name != rows:
                file.unlink()

    @classmethod
    def load(cls, folder: str | Path) -> tuple[RowStore, str]:
        """What `save` has written, and the caller's text."""
        place = Path(folder)
        facts = json.loads((place / "names.json").read_text(encoding="utf-8"))
        store = cls(facts["factory"])
        store.trained_rows, store.next_number = facts["trained_rows"], facts["next_number"]
        store.numbers = facts["numbers"]
        store.names = {number: name for name, number in store.numbers.items()}
        if facts["rows"] is not None:
            store.index = fx.read_index(place / Path(facts["rows"]).name)
            if store.index.ntotal != len(store.numbers):
                raise ValueError(f"{folder}: {store.index.ntotal} rows, {len(store.numbers)} names")
        return store, facts["more"]
