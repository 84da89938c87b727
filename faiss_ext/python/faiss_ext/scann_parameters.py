"""Parameters of Milvus' SCANN: Knowhere's names, defaults and ranges, and ours beside them.

In:  mappings as clients send them: numbers, or strings in any spelling
     ("16", " True ", '"true"').
Out: BuildParameters and SearchParameters, checked, and what they mean to the
     engine: a factory string, keywords of Index.search. An unknown key or a bad
     value is a ValueError with key, value and what is allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from ._faiss_ext import _codes_in_fours, _segment_reach

MAX_LISTS = 65536
MAX_FLOAT = 3.4028234663852886e38  # of float32, which the engine computes with
DEFAULT_NPROBE = 8  # of many rows; of few, _segment_reach says more
ROWS_PER_LIST = 39  # Knowhere lowers nlist until every list has so many
# Up to so many rows a search scans all and rescores all from raw rows: exact,
# and codes trained on so few would not be worth much.
FEW_ROWS = 2048
# From so many dimensions on two codes of 4 dimensions each take no more bytes
# than one of 2, and find more.
COPIED_DIM = 128

_Self = TypeVar("_Self", bound="_Parameters")


def _bare(value: object) -> str:
    """Text of a value, without blanks around and without a JSON string's quotes."""
    text = str(value).strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1].strip()
    return text


def _shown(limit: float) -> str:
    return f"{limit:.10g}" if abs(limit) < MAX_FLOAT else f"{math.copysign(math.inf, limit)}"


@dataclass(frozen=True)
class _Integer:
    low: int
    high: int

    def parse(self, value: object) -> int:
        if isinstance(value, bool) or not re.fullmatch(r"[+-]?[0-9]+", _bare(value)):
            raise ValueError
        number = int(_bare(value))
        if not self.low <= number <= self.high:
            raise ValueError
        return number

    def __str__(self) -> str:
        return f"an integer in {self.low}..{self.high}"


@dataclass(frozen=True)
class _Real:
    low: float
    high: float = MAX_FLOAT

    def parse(self, value: object) -> float:
        if isinstance(value, bool):
            raise ValueError
        number = float(_bare(value))
        if not self.low <= number <= self.high:  # NaN neither
            raise ValueError
        return number

    def __str__(self) -> str:
        return f"a number in {_shown(self.low)}..{_shown(self.high)}"


@dataclass(frozen=True)
class _Flag:
    def parse(self, value: object) -> bool:
        return {"true": True, "false": False}[_bare(value).lower()]

    def __str__(self) -> str:
        return "true or false"


@dataclass(frozen=True)
class _Word:
    words: tuple[str, ...]

    def parse(self, value: object) -> str:
        word = _bare(value).lower()
        if word not in self.words:
            raise ValueError
        return word

    def __str__(self) -> str:
        return "|".join(self.words)


def _parameter(default: Any, allowed: object) -> Any:
    return field(default=default, metadata={"allowed": allowed})


class _Parameters:
    kind: ClassVar[str]

    @classmethod
    def parse(cls: type[_Self], given: Mapping[str, Any] | None, ignored: Collection[str] = ()) -> _Self:
        """Values of `given`; keys in `ignored` and values None are skipped."""
        known = {f.name: f.metadata["allowed"] for f in fields(cls)}  # type: ignore[arg-type]
        values: dict[str, Any] = {}
        for key, value in (given or {}).items():
            if key in known:
                if value is not None:
                    try:
                        values[key] = known[key].parse(value)
                    except (ValueError, KeyError):
                        raise ValueError(f'{key} = "{value}" (allowed: {known[key]})') from None
            elif key not in ignored:
                raise ValueError(f'unknown {cls.kind} parameter {key} = "{value}" (known: {", ".join(known)})')
        return cls(**values)


@dataclass(frozen=True)
class BuildParameters(_Parameters):
    """What `create_index` takes for SCANN."""

    kind: ClassVar[str] = "build"

    nlist: int = _parameter(128, _Integer(1, MAX_LISTS))
    sub_dim: int | None = _parameter(None, _Integer(1, 8))
    with_raw_data: bool = _parameter(True, _Flag())
    eta: float | None = _parameter(None, _Real(1))
    anisotropic_threshold: float | None = _parameter(None, _Real(-MAX_FLOAT))
    soar_lambda: float | None = _parameter(None, _Real(0))
    refine_type: str = _parameter("none", _Word(("none", "int8", "fp16", "bf16")))
    target_recall: float | None = _parameter(None, _Real(0.01, 0.999))

    def __post_init__(self) -> None:
        if self.eta is not None and self.anisotropic_threshold is not None:
            raise ValueError(
                f"eta = {self.eta:g} and anisotropic_threshold = {self.anisotropic_threshold:g} (allowed: one of them)"
            )
        if self.target_recall is not None and not self.with_raw_data:
            raise ValueError(
                f"target_recall = {self.target_recall:g} with with_raw_data = false (allowed: true; "
                "recall is measured against raw rows)"
            )

    def factory(self, rows: int, dim: int) -> str:
        """The engine's factory string for an index of so many rows of `dim` values.

        Where soar_lambda is not given, raw rows of COPIED_DIM values and more
        get a copy in a second list, and codes of 4 dimensions. Without raw
        rows, codes fill whole groups of four.
        """
        copies = self.soar_lambda is None and self.with_raw_data and rows > FEW_ROWS and dim >= COPIED_DIM
        raw = self.with_raw_data or rows <= FEW_ROWS
        sub_dim = self.sub_dim or (4 if copies else 2)
        codes = 0 if self.sub_dim or raw else _codes_in_fours(dim, sub_dim)
        options = {
            "sub_dim": None if codes else sub_dim,
            "eta": self.eta,
            "threshold": self.anisotropic_threshold,
            "soar_lambda": 1.0 if copies else self.soar_lambda or None,
        }
        given = ",".join(f"{key}={value}" for key, value in options.items() if value is not None)
        lists = max(1, min(self.nlist, rows // ROWS_PER_LIST))
        refine = {"none": "", "int8": ",SQ8", "fp16": ",SQfp16", "bf16": ",SQbf16"}[self.refine_type]
        name = f"ScaNN{codes}x4" if codes else "ScaNN"
        return f"IVF{lists},{name}" + (f"({given})" if given else "") + refine + (",RFlat" if raw else "")


@dataclass(frozen=True)
class SearchParameters(_Parameters):
    """What a search takes for SCANN, beside k, metric and filter."""

    kind: ClassVar[str] = "search"

    nprobe: int | None = _parameter(None, _Integer(1, MAX_LISTS))
    reorder_k: int | None = _parameter(None, _Integer(1, 2**31 - 1))
    ensure_topk_full: bool = _parameter(False, _Flag())

    def check(self, k: int) -> None:
        """Refuses a reorder_k below k."""
        if self.reorder_k is not None and self.reorder_k < k:
            raise ValueError(f"reorder_k = {self.reorder_k} is below k = {k} (allowed: >= k)")

    def arguments(
        self, *, k: int, rows: int, nlist: int, with_raw_data: bool, calibrated: int | None = None
    ) -> dict[str, Any]:
        """Keywords of Index.search for an index of so many rows and lists.

        `calibrated` is the nprobe that target_recall chose.
        """
        if rows <= FEW_ROWS:
            return {"nprobe": nlist, "reorder_k": max(rows, k), "refine_k": max(rows, k)}
        nprobe, candidates = _segment_reach(rows, nlist, k, DEFAULT_NPROBE)
        chosen = self.nprobe or calibrated
        found = {"nprobe": min(chosen or nprobe, nlist)}
        if not chosen and candidates and with_raw_data:
            found["reorder_k"] = candidates
        if self.reorder_k is not None:
            # The last step that rescores is the one that is meant.
            found["reorder_k" if with_raw_data else "refine_k"] = max(self.reorder_k, k)
        return found
