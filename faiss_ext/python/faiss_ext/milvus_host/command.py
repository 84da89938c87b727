"""The command line of milvus_host: plugin-path, serve.

In:  arguments. Out: lines on the screen, an exit code. All work is done by
server.py.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys

from . import ports, server


def _port(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= value <= 65535 or value == ports.ETCD_PEER_PORT:
        raise argparse.ArgumentTypeError(
            f"{text!r} (allowed: 1..65535, but for {ports.ETCD_PEER_PORT}, which the server's etcd takes)"
        )
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} (allowed: a number of seconds, 0 or more)")
    return value


def run(arguments: list[str] | None = None) -> int:
    """Run one command; 0, or 1 after an error that was printed."""
    parser = argparse.ArgumentParser(
        prog="python -m faiss_ext.milvus_host", description="A Milvus server whose SCANN is faiss_ext's."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("plugin-path", help="print the library to preload: LD_PRELOAD=$(...)")
    serve = commands.add_parser("serve", help="run a server until Ctrl-C")
    serve.add_argument("base_dir", help="folder of data and logs; made if missing")
    serve.add_argument("--port", type=_port, help="default: 19530 or the next free one")
    serve.add_argument("--no-plugin", action="store_true", help="the server with its own SCANN")
    serve.add_argument("--environment", help="virtual environment with the package milvus, default: this one")
    serve.add_argument("--binaries", help="where its files are unpacked once, default: ~/.cache/faiss_ext")
    serve.add_argument(
        "--wait", type=_seconds, default=0.0, metavar="SECONDS", help="for another server of this machine to end"
    )
    given = parser.parse_args(arguments)
    try:
        if given.command == "plugin-path":
            print(server.plugin_path())
            return 0
        return _serve(given)
    except (OSError, ValueError, server.MilvusHostError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _serve(given: argparse.Namespace) -> int:
    def end(*_: object) -> None:
        raise KeyboardInterrupt

    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, end)
    try:
        with server.start(
            given.base_dir,
            port=given.port,
            plugin=not given.no_plugin,
            environment=given.environment,
            binaries=given.binaries,
            wait=given.wait,
            on_wait=lambda holder: print(f"waiting for another server: {holder}", flush=True),
            on_step=lambda step: print(step, flush=True),
        ) as running:
            print(
                f"{running.uri}  (pid {running.pid}; SCANN: {running.plugin or 'its own'}; logs: {running.logs})",
                flush=True,
            )
            running.wait()
    except KeyboardInterrupt:
        print("stopped", flush=True)
    return 0
