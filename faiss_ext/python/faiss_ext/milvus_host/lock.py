"""One Milvus server per machine: a lock between processes.

In:  who wants to start a server. Out: the lock, or a message that names who
has it. Next: server.py hands the lock's file to the server, so that it is
held as long as either of them lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Callable

# Not tempfile.gettempdir(): all users and all TMPDIRs have to meet here.
LOCK_FILE = Path("/tmp/faiss_ext-milvus-server.lock")

POLL_SECONDS = 0.1


class ServerLock:
    """The lock of this machine's Milvus server (flock)."""

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path or LOCK_FILE)
        self._file: int | None = None

    def __repr__(self) -> str:
        return f"ServerLock({str(self.path)!r}, {'held' if self.held else 'free'})"

    @property
    def held(self) -> bool:
        """Whether this object has the lock."""
        return self._file is not None

    def fileno(self) -> int:
        """The file a child must inherit to share the lock."""
        if self._file is None:
            raise ValueError(f"{self.path} is not locked")
        return self._file

    def acquire(self, wait: float = 0.0, on_wait: Callable[[str], None] | None = None) -> None:
        """Take the lock, waiting `wait` seconds for it at most.

        `on_wait` is called with the holder's description whenever the holder
        that is waited for changes.

        Raises
        ------
        TimeoutError
            Another process has it; the message names that process.
        """
        if self.held:
            return
        deadline = time.monotonic() + wait
        file = _open_shared(self.path)
        told = ""
        try:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    holder = _read(file)
                if time.monotonic() >= deadline:
                    raise TimeoutError(
                        f"one Milvus server per machine: {self.path} is held by {holder}"
                        + (f" (waited {wait:g} s)" if wait else "")
                    )
                if on_wait is not None and holder != told:
                    told = holder
                    on_wait(holder)
                time.sleep(POLL_SECONDS)
        except BaseException:
            os.close(file)
            raise
        self._file = file
        self.describe()

    def describe(self, **facts: object) -> None:
        """Write down who has the lock: this process and `facts`, for those who wait."""
        text = json.dumps({"pid": os.getpid(), **{name: str(fact) for name, fact in facts.items()}})
        os.ftruncate(self.fileno(), 0)
        os.pwrite(self.fileno(), text.encode(), 0)

    def release(self) -> None:
        """Give the lock back. A server that inherited it keeps it until it ends."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _open_shared(path: Path) -> int:
    """Open the lock file; any user may make it, every user may lock it."""
    while True:
        try:
            # no O_CREAT: with fs.protected_regular it refuses other users' files
            return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            pass
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except FileExistsError:
            continue
        os.fchmod(file, 0o666)
        return file


def _read(file: int) -> str:
    """The holder's own description."""
    try:
        facts = json.loads(os.pread(file, 4096, 0))
        return ", ".join(f"{name} {value}" for name, value in facts.items())
    except (ValueError, AttributeError):
        return "a process that is just starting"
