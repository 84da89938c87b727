"""The command line of all benchmarks: `python -m bench COMMAND --help`.

A command is a module of bench/commands with a dataclass `Options` and
`run(options)`; only the module that is asked for is imported.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import signal
import sys
import time
from types import ModuleType

from bench.folders import REPOSITORY, Unavailable
from bench.options import OptionError, add_options, read_options

COMMANDS = {
    "curves": "recall against speed: our index and its peers, in turn",
    "codes": "recall of the codes alone at equal bytes, beside Faiss' PQx4fs",
    "threshold": "recall of the codes alone against eta and T",
    "calibration": "what calibrate() promises and delivers",
    "promise": "what search(target_recall=) promises and delivers, with filters, too",
    "stages": "where the time of one query goes",
    "tiers": "what a query costs with less and less of a file in memory",
    "threads": "what a second thread brings; how fast rows are added",
    "growth": "time per query and of builds against the number of rows",
    "concurrent": "what a search takes while another thread adds, removes and updates",
    "streaming": "recall and time while rows come and go, with and without maintenance",
    "textset": "make sets of sentence embeddings, gcide-384 or wordnet-768 (bench/textset sets up what it needs)",
    "siftset": "make sets of SIFT descriptors, such as sift-1m (bench/siftset sets up what it needs)",
    "milvus": "SCANN in a Milvus server beside its own indexes (set up by bench/milvus)",
    "vectordbbench": "VectorDBBench in process and in Milvus (set up by bench/vectordbbench)",
    "demo": "nearest words, recall, speed and sizes (set up by bench/demo)",
    "demo-server": "the demonstration's part in a Milvus server",
    "kernels": "speed of every kernel; sets up and builds, options of Google Benchmark",
}
FAILED, BAD_USE, STOPPED = 1, 2, 130  # exit codes


def command_module(name: str) -> ModuleType:
    """The module of a command."""
    try:
        return importlib.import_module(f"bench.commands.{name.replace('-', '_')}")
    except ModuleNotFoundError as missing:
        raise Unavailable(
            f"{missing.name} is not installed for {sys.executable}: bench/demo sets up build/venv with the package"
        ) from None


def parser_for(arguments: list[str]) -> argparse.ArgumentParser:
    """All commands; the options of the one that `arguments` ask for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks and demonstrations of faiss_ext.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        if arguments[:1] != [name]:
            commands.add_parser(name, help=summary)
            continue
        module = command_module(name)
        sub = commands.add_parser(
            name, help=summary, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        add_options(sub, module.Options)
    return parser


def main(arguments: list[str]) -> int:
    """Runs one command; its exit code."""
    if arguments[:1] == ["kernels"]:
        script = str(REPOSITORY / "bench" / "kernels")
        os.execv(script, [script, *arguments[1:]])
    try:
        parser = parser_for(arguments)
        given = parser.parse_args(arguments)
        module = command_module(given.command)
        try:
            options = read_options(module.Options, given)
        except OptionError as wrong:
            parser.error(f"{given.command}: {wrong}")
        return int(module.run(options) or 0)
    except Unavailable as missing:
        print(f"error: {missing}", file=sys.stderr)
        return BAD_USE
    except (ValueError, OSError) as wrong:  # a factory string, a damaged file, a full disk
        if sys.flags.dev_mode:
            raise
        print(f"error: {wrong} (python -X dev -m bench .. says where)", file=sys.stderr)
        return FAILED


def _stop(*_: object) -> None:
    """A signal that would end the process at once ends it in order, with its servers and workers."""
    raise KeyboardInterrupt


def _go_on_in_venv(arguments: list[str]) -> None:
    """Where this Python has no numpy, that of build/venv runs the command, if bench/demo or tests/run has made it."""
    venv = REPOSITORY / "build" / "venv"
    python = venv / "bin" / "python"
    if importlib.util.find_spec("numpy") is not None or sys.prefix == str(venv) or not python.is_file():
        return
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    os.execve(python, [str(python), "-m", "bench", *arguments], {**os.environ, "PYTHONPATH": path})


def command_line(arguments: list[str]) -> int:
    """`main` for a process of its own."""
    _go_on_in_venv(arguments)
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _stop)
    started = time.monotonic()
    try:
        return main(arguments)
    except KeyboardInterrupt:
        print(f"\nstopped after {time.monotonic() - started:.0f} s", file=sys.stderr)
        return STOPPED
