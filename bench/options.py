"""Options of the commands: a dataclass each, whose fields are the options.

A field has its default and its help in one place; `add_options` tells argparse
of them, `read_options` makes the dataclass of what argparse has read. What
several commands take stands here once; a command inherits what it needs.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.folders import RESULTS, default_data

T = TypeVar("T")
DEEPEST_TRUTH = 100  # neighbours that ground_truth.py finds, and so the largest --k


class OptionError(ValueError):
    """An option that cannot be; the text names it with the allowed range."""


@dataclass(frozen=True)
class _Argument:
    """What argparse must know beside name and default."""

    text: str
    flag: str
    parse: Callable[[str], Any] | None
    choices: Sequence[str] | None
    metavar: str | None
    repeated: bool
    positional: bool
    hidden: bool
    folder: bool
    low: float | None
    high: float | None

    def allowed(self) -> str:
        """The range, in words."""
        return f"{self.low:g}..{self.high:g}" if self.high is not None else f"{self.low:g} and more"

    def check(self, value: Any) -> None:
        """OptionError for what cannot be."""
        if isinstance(value, Path) and self.folder and value.exists() and not value.is_dir():
            raise OptionError(f"{self.flag} {value} is a file (allowed: a folder, which is made if missing)")
        if self.low is None or not isinstance(value, (int, float)):
            return
        if not value >= self.low or (self.high is not None and not value <= self.high):  # nan is in no range
            raise OptionError(f"{self.flag} {value:g} (allowed: {self.allowed()})")


def option(
    default: Any,
    text: str,
    *,
    flag: str = "",
    parse: Callable[[str], Any] | None = None,
    choices: Sequence[str] | None = None,
    metavar: str | None = None,
    repeated: bool = False,
    positional: bool = False,
    hidden: bool = False,
    folder: bool = False,
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """A field that is an option; `parse` is by default the type of the default."""
    return dataclasses.field(
        default=default,
        metadata={
            "argument": _Argument(text, flag, parse, choices, metavar, repeated, positional, hidden, folder, low, high)
        },
    )


def another_default(options: type, name: str, default: Any) -> Any:
    """The inherited option `name` with a default of its own."""
    [known] = [f for f in dataclasses.fields(options) if f.name == name]
    return dataclasses.field(default=default, metadata=known.metadata)


def words(text: str) -> tuple[str, ...]:
    """'a,b' -> ('a', 'b')."""
    found = tuple(word for word in text.split(",") if word)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} (allowed: words with commas)")
    return found


def integers(text: str) -> tuple[int, ...]:
    """'1,2' -> (1, 2)."""
    try:
        return tuple(int(word) for word in words(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} (allowed: whole numbers with commas, such as 1,4)") from None


def numbers(text: str) -> tuple[float, ...]:
    """'1,.5' -> (1.0, 0.5)."""
    try:
        return tuple(float(word) for word in words(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} (allowed: numbers with commas, such as .9,.95)") from None


def assignments(text: str) -> dict[str, int]:
    """'nprobe=8,reorder_k=60' -> {'nprobe': 8, 'reorder_k': 60}."""
    pairs = [pair.partition("=") for pair in words(text)]
    try:
        return {name: int(value) for name, _, value in pairs}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} (allowed: such as nprobe=8,reorder_k=60)") from None


def argument_of(field: dataclasses.Field[Any]) -> _Argument:
    """What argparse must know of a field."""
    argument: _Argument = field.metadata["argument"]
    flag = argument.flag or "--" + field.name.replace("_", "-")
    return dataclasses.replace(argument, flag=flag)


def add_options(parser: argparse.ArgumentParser, options: type) -> None:
    """Every field of the dataclass `options` becomes an argument."""
    for field in dataclasses.fields(options):
        argument = argument_of(field)
        name = argument.flag
        help_text = argparse.SUPPRESS if argument.hidden else _help(argument, field.default)
        if isinstance(field.default, bool):
            parser.add_argument(name, dest=field.name, action="store_true", help=help_text)
        elif argument.positional:
            parser.add_argument(field.name, nargs="*", default=[], metavar=argument.metavar, help=help_text)
        elif argument.repeated:
            parser.add_argument(
                name,
                dest=field.name,
                action="append",
                type=argument.parse or str,
                default=[],
                metavar=argument.metavar,
                help=help_text,
            )
        else:
            parser.add_argument(
                name,
                dest=field.name,
                type=argument.parse or type(field.default),
                default=field.default,
                choices=argument.choices,
                metavar=argument.metavar,
                help=help_text,
            )


def _help(argument: _Argument, default: Any) -> str:
    """The text, and the default where there is one to show."""
    shown = ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in default) if _is_list(default) else default
    hide = isinstance(default, bool) or shown in ("", None)
    return argument.text.replace("%", "%%") + ("" if hide else f" ({shown})")


def _is_list(default: object) -> bool:
    return isinstance(default, tuple)


def read_options(options: type[T], given: argparse.Namespace) -> T:
    """The dataclass with what was given; OptionError where it cannot be."""
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in vars(given).items()}
    for field in dataclasses.fields(options):  # type: ignore[arg-type]
        argument = argument_of(field)
        argument.check(values[field.name])
    return options(**{f.name: values[f.name] for f in dataclasses.fields(options)})  # type: ignore[arg-type]


# ------------------------------------------------- what several commands take


@dataclass(frozen=True)
class CacheOptions:
    cache: Path = option(RESULTS, "folder of cached ground truth", folder=True)


@dataclass(frozen=True)
class SetOptions(CacheOptions):
    """The data sets."""

    data: Path = option(default_data(), "folder of the sets; without it that of FAISS_EXT_BENCH_DATA")
    sets: tuple[str, ...] = option(
        ("glove-50-frequent",), "name of the set, several with commas", flag="--set", parse=words, metavar="SET"
    )
    rows: int = option(0, "first rows of each set, 0: all", low=0)
    queries: int = option(2000, "first queries of each set, 0: all", low=0)


@dataclass(frozen=True)
class OutOptions:
    out: Path = option(RESULTS, "folder of the results", folder=True)


@dataclass(frozen=True)
class ThreadOptions:
    threads: int = option(2, "threads of every build", low=1)


@dataclass(frozen=True)
class SeedOptions:
    seed: int = option(1, "of everything that is drawn at random", low=0)


@dataclass(frozen=True)
class RepetitionOptions:
    repetitions: int = option(5, "measurements in turn, of which minimum or median count", low=1)


@dataclass(frozen=True)
class NeighbourOptions:
    k: int = option(10, "neighbours of each query", low=1, high=DEEPEST_TRUTH)


@dataclass(frozen=True)
class IndexOptions(NeighbourOptions, ThreadOptions, OutOptions, SetOptions):
    """Of commands that build indexes of sets and search them."""
