"""A Milvus server for one row of the table: started, its memory read, removed.

In:  whether our plug-in is preloaded. Out: an address, resident bytes that
loading the collection adds, and the proof which library served "SCANN".
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from bench.folders import MILVUS_BINARIES
from bench.vdbbench.runs import Failed
from faiss_ext import milvus_host

COLLECTION = "VDBBench"  # the name that VectorDBBench's Milvus client uses
CLIENT_SECONDS = 300.0
WAIT_FOR_OTHERS = 1800.0  # one server a machine
# Run by VectorDBBench's interpreter, which has the client that fits this server.
ASK = """
import sys
from pymilvus import Collection, connections
connections.connect(uri=sys.argv[1], timeout=60)
collection = Collection(sys.argv[2])
if sys.argv[3] == "load":
    collection.load(timeout=240)
else:
    collection.release(timeout=60)
"""


class MilvusRow:
    """One server in a folder of its own; a context manager."""

    def __init__(self, folder: Path, plugin: bool, milvus_environment: str | None, client_python: str):
        self.folder = folder
        shutil.rmtree(self.folder, ignore_errors=True)
        self.python = client_python
        self.server = milvus_host.start(
            self.folder,
            plugin=plugin,
            environment=milvus_environment,
            binaries=MILVUS_BINARIES,
            wait=WAIT_FOR_OTHERS,
        )
        self.plugin = plugin

    def __enter__(self) -> MilvusRow:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.server.stop()
        if kind is None:  # after a fault its logs are wanted
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def uri(self) -> str:
        return self.server.uri

    def served_by(self, index: str) -> str:
        """The library that answered; Failed if it was not the one that was meant."""
        serving = self.server.serving()
        if not self.plugin or index != "SCANN":
            if serving is not None:
                raise Failed(f"{serving} is in the server that was to be the stock one")
            return "libknowhere.so of the server"
        counters = self.server.statistics()
        if serving is None or not (counters.get("builds") and counters.get("searches")):
            raise Failed(f"the plug-in built and searched nothing: {counters}")
        return f"{serving.name}, {counters['searches']} searches"

    def loaded_bytes(self) -> int:
        """Resident bytes that loading the collection adds to a server just started."""
        self._ask("release")
        self.server.restart()
        before = self.server.memory()
        self._ask("load")
        return self.server.memory() - before

    def _ask(self, what: str) -> None:
        command = [self.python, "-c", ASK, self.server.uri, COLLECTION, what]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"{what} of the collection: no answer within {CLIENT_SECONDS:g} s") from None
        if done.returncode:
            raise Failed(f"{what} of the collection: {done.stderr.strip()[-300:]}")
