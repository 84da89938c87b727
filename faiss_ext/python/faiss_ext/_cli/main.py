"""Arguments of the command line, its errors and exit codes."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TextIO

from .. import __version__
from .. import _vector_files as vectors
from .._errors import Failure, UsageError
from . import commands, results

FORMATS = ", ".join(vectors.FORMATS)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _positive(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= value < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} (allowed: 1..2147483647)")
    return value


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 64):
        raise argparse.ArgumentTypeError(f"{text!r} (allowed: 0..2^64-1)")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} (allowed: above 0, below 1)")
    return value


def parser() -> argparse.ArgumentParser:
    """The commands and their arguments."""
    root = _Parser(prog="faiss_ext", description="ScaNN indexes from files of vectors.")
    root.add_argument("--version", action="version", version=__version__)
    parts = root.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, help: str, *, threads: bool = True) -> argparse.ArgumentParser:
        part = parts.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        part.add_argument("--json", action="store_true", help="print one JSON object")
        if threads:
            part.add_argument("--threads", type=_positive, metavar="N", help="default: all that OpenMP gives")
        return part

    def column(part: argparse.ArgumentParser) -> None:
        part.add_argument("--column", help="data set of an HDF5 file, column of a Parquet file")

    part = command("build", "make an index of the rows of a file")
    part.add_argument("rows", type=Path, help=f"formats: {FORMATS}")
    part.add_argument("--output", "-o", type=Path, required=True, metavar="INDEX")
    part.add_argument("--description", default="ScaNN", help="factory string (default: ScaNN, which chooses all)")
    part.add_argument("--metric", choices=sorted(commands.METRICS), help="default: as an HDF5 file says, else l2")
    part.add_argument("--seed", type=_seed, help="of all random choices (default: 1234)")
    part.add_argument("--memory", metavar="SIZE", help="such as 2GB: for more rows than fit into memory")
    column(part)

    part = command("search", "find the nearest rows of each query")
    part.add_argument("index", type=Path)
    part.add_argument("queries", type=Path, help=f"formats: {FORMATS}")
    part.add_argument("-k", type=_positive, default=10, help="neighbours of each (default: 10)")
    for name in ("nprobe", "reorder-k", "refine-k"):
        part.add_argument(f"--{name}", type=_positive, metavar="N", help="default: the index'")
    part.add_argument("--output", "-o", type=Path, help=f"formats: {', '.join(results.RESULT_FORMATS)}")
    part.add_argument("--ground-truth", type=Path, metavar="FILE", help="true neighbours: prints the recall")
    column(part)

    part = command("info", "what an index file is, without reading all of it", threads=False)
    part.add_argument("index", type=Path)

    part = command("calibrate", "choose search parameters for a wanted recall and save them in the index")
    part.add_argument("index", type=Path)
    part.add_argument("--target-recall", type=_share, default=0.95, metavar="SHARE", help="default: 0.95")
    part.add_argument("-k", type=_positive, default=10, help="default: 10")
    part.add_argument("--queries", type=Path, metavar="FILE", help="like those to come (default: some of the rows)")
    part.add_argument("--output", "-o", type=Path, metavar="INDEX", help="default: the index itself")
    column(part)

    part = command("export", "write an index file of plain Faiss")
    part.add_argument("index", type=Path)
    part.add_argument("output", type=Path)

    part = command("convert", "vectors to another format, or an index file of Faiss to one of ours")
    part.add_argument("input", type=Path)
    part.add_argument("output", type=Path)
    part.add_argument("--description", help="of the new index, such as ScaNN,RFlat")
    column(part)
    return root


def main(words: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    words : sequence of str, optional
        Default: ``sys.argv[1:]``.

    Returns
    -------
    code : int
        0; 1: it failed; 2: the arguments are wrong; 130: Ctrl-C.
    """
    arguments = parser().parse_args(words)
    warnings.showwarning = _show_warning
    try:
        commands.start(arguments)
        # argparse lets only these through
        facts = getattr(commands, arguments.command)(arguments)
        results.say(facts, as_json=arguments.json or arguments.command == "info")
        sys.stdout.flush()
    except BrokenPipeError:
        # nobody reads on: nothing more may be written, at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except UsageError as error:
        return _complain(str(error), 2)
    except (Failure, ValueError, RuntimeError, OSError) as error:
        return _complain(str(error), 1)
    except MemoryError:
        return _complain("out of memory", 1)
    return 0


def _complain(message: str, code: int) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"faiss_ext: error: {line}\n")
    return code


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    sys.stderr.write(f"note: {message}\n")
