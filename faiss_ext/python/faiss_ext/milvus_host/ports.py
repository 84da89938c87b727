"""Ports for a Milvus server: free ones, and the one that is not ours to choose.

In:  wishes by name. Out: a port for each name. Next: server.py writes them
into the server's configuration.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from typing import Callable

ETCD_PEER_PORT = 2380  # of Milvus' embedded etcd, fixed in the server
FIRST_PORT = 40000  # for what has no usual port
POLL_SECONDS = 0.05


def is_free(port: int) -> bool:
    """Whether no process listens on it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # old connections do not count
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def choose(usual: Mapping[str, int], fixed: Mapping[str, int]) -> dict[str, int]:
    """The `fixed` ports, and for the other names the usual port or the next free one.

    Raises
    ------
    OSError
        A fixed port is in use, or there is no free one.
    """
    chosen: dict[str, int] = {}
    for name, port in fixed.items():
        if not is_free(port):
            raise OSError(f"port {port} is in use")
        chosen[name] = port
    for name, first in usual.items():
        if name in chosen:
            continue
        taken = {ETCD_PEER_PORT, *chosen.values()}
        free = (port for port in range(first or FIRST_PORT, 65536) if port not in taken and is_free(port))
        port = next(free, 0)
        if port == 0:
            raise OSError(f"no free port from {first} on for Milvus' {name}")
        chosen[name] = port
    return chosen


def await_etcd_port(deadline: float, on_wait: Callable[[str], None] | None) -> None:
    """Wait until `deadline` (time.monotonic) for a server that does not know of the lock to end.

    It may run in a container; its port shows it. TimeoutError if it goes on.
    """
    told = False
    while not is_free(ETCD_PEER_PORT):
        if time.monotonic() >= deadline:
            raise TimeoutError(
                f"port {ETCD_PEER_PORT}, which Milvus' etcd needs, is in use: does another Milvus or etcd run here?"
            )
        if on_wait is not None and not told:
            told = True
            on_wait(f"whoever listens on port {ETCD_PEER_PORT}")
        time.sleep(POLL_SECONDS)
