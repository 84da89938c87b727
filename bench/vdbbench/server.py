"""A Milvus server for one row of the table: started, its memory read, removed.

In:  whether our plug-in is preloaded. Out: an address, what loading the
collection takes, and the proof which library served "SCANN".
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.folders import MILVUS_BINARIES
from bench.milvus_files import original_size
from bench.vdbbench.runs import Failed
from faiss_ext import milvus_host

COLLECTION = "VDBBench"  # the name that VectorDBBench's Milvus client uses
CLIENT_SECONDS = 300.0
WAIT_FOR_OTHERS = 1800.0  # one server a machine
# Run by VectorDBBench's interpreter, which has the client that fits this server.
ASK = """
import json, sys
from pymilvus import Collection, connections, utility
connections.connect(uri=sys.argv[1], timeout=60)
collection = Collection(sys.argv[2])
if sys.argv[3] == "load":
    collection.load(timeout=240)
    segments = utility.get_query_segment_info(sys.argv[2], timeout=60)
    print(json.dumps({str(segment.segmentID): segment.num_rows for segment in segments}))
else:
    collection.release(timeout=60)
"""


@dataclass(frozen=True)
class Loaded:
    """A collection in memory."""

    memory_bytes: int
    memory_kind: str  # how they were found
    segments: list[int]  # rows of each


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
            on_step=lambda step: print(f"  {step}", flush=True),
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

    def loaded(self) -> Loaded:
        """What loading the collection adds to a server just started.

        Resident bytes, but not less than the indexes that are in memory then:
        the server's own memory moves, too, by more than a small index has.
        """
        self._ask("release")
        self.server.restart()
        before = self.server.memory()
        segments: dict[str, int] = json.loads(self._ask("load"))
        grown, indexes = self.server.memory() - before, self._index_bytes(set(segments))
        rows = list(segments.values())
        if grown > indexes:
            return Loaded(grown, "RSS by load", rows)
        return Loaded(indexes, "indexes as loaded" if indexes else "no index", rows)

    def _index_bytes(self, segments: set[str]) -> int:
        """Bytes of the indexes of these segments, as Milvus loads them."""
        folders = (self.folder / "data" / "index_files").glob("*/*/*/*")  # build, version, partition, segment
        newest = {path.parents[2].name: path for path in sorted(folders, key=lambda path: int(path.parents[1].name))}
        wanted = [path for path in newest.values() if path.name in segments]
        return sum(original_size(file) for folder in wanted for file in folder.rglob("*") if file.is_file())

    def _ask(self, what: str) -> str:
        command = [self.python, "-c", ASK, self.server.uri, COLLECTION, what]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"{what} of the collection: no answer within {CLIENT_SECONDS:g} s") from None
        if done.returncode:
            raise Failed(f"{what} of the collection: {done.stderr.strip()[-300:]}")
        return done.stdout
