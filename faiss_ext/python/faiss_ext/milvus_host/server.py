"""The process of a Milvus server: started with the plug-in, watched, stopped.

In:  a folder, the package `milvus` (files.py), ports (ports.py), the lock of this
     machine (lock.py). Out: Server, a process that clients can ask.
"""

from __future__ import annotations

import atexit
import http.client
import os
import signal
import struct
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Callable

from . import files, ports
from .lock import ServerLock

METRICS_PORT = 9091
POLL_SECONDS = 0.05
STOP_SECONDS = 10.0

# Without the first a stop takes as long as a collection is loaded, up to half an
# hour; with the second a killed server's data is served 4.5 s after its restart,
# with Milvus' own 60 s after 26 s.
DEFAULT_SETTINGS = {"common.gracefulStopTimeout": 1, "common.session.ttl": 3}


class MilvusHostError(RuntimeError):
    """The server does not start or has ended; the message says where its logs are."""


def plugin_path() -> Path:
    """The library to preload into a Milvus server.

    Raises
    ------
    FileNotFoundError
        This installation was built without it.
    """
    path = Path(__file__).resolve().parents[1] / "libknowhere_scann.so"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: this installation of faiss_ext was built without it")
    return path


class Server:
    """A Milvus server that this process has started; see `start`.

    Attributes
    ----------
    base_dir, logs : Path
        The server's folder; its logs.
    host, port, uri : str, int, str
        Where it answers clients.
    metrics_port : int
        Where it answers /healthz and /metrics.
    plugin : Path or None
        What is preloaded.
    """

    def __init__(
        self,
        base_dir: str | Path,
        *,
        port: int | None = None,
        plugin: bool | str | Path = True,
        settings: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        package: files.MilvusPackage | None = None,
        binaries: str | Path | None = None,
    ) -> None:
        self.base_dir = Path(base_dir).resolve()
        self.logs = self.base_dir / "logs"
        self.host = "127.0.0.1"
        self.plugin = _resolve(plugin)
        self.settings = {**DEFAULT_SETTINGS, **(settings or {})}
        self.environ = dict(environ or {})
        self._package = package or files.find_package()
        self._binaries = binaries
        self._wanted_port = port
        self._ports: dict[str, int] = {}
        self._log_start = 0
        self._statistics = self.base_dir / "plugin-statistics"
        self._lock = ServerLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    def __repr__(self) -> str:
        state = f"pid {self.pid}, {self.uri}" if self.running else "stopped"
        return f"<Milvus {self._package.version} in {self.base_dir}: {state}>"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ------------------------------------------------------------- facts

    @property
    def port(self) -> int:
        return self._ports["proxy_port"]

    @property
    def metrics_port(self) -> int:
        return self._ports["metrics_port"]

    @property
    def uri(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id; MilvusHostError if it does not live."""
        if self._process is None:
            raise MilvusHostError(f"the server in {self.base_dir} was not started or was stopped")
        if self._process.poll() is not None:
            raise self._failure(f"the server has ended ({_exit_text(self._process.returncode)})")
        return self._process.pid

    def libraries(self) -> list[Path]:
        """Files that the process has mapped: programs and libraries."""
        lines = Path(f"/proc/{self.pid}/maps").read_text(encoding="utf-8").splitlines()
        paths = {line.split(maxsplit=5)[5] for line in lines if line.count(" /") > 0}
        return sorted(Path(path) for path in paths)

    def library(self, name: str) -> Path:
        """The library of this file name in the process; LookupError if there is none."""
        for path in self.libraries():
            if path.name == name:
                return path
        raise LookupError(f"no {name} in the server (pid {self.pid})")

    def serving(self) -> Path | None:
        """The library behind "SCANN": the plug-in if its engine is in the process and has registered.

        None: the server's own library.
        """
        if self.plugin is None or _engine(self.plugin) not in self.libraries():
            return None
        return self.plugin if self.statistics().get("pid") == self.pid else None

    def statistics(self) -> dict[str, int]:
        """What the plug-in has counted since the server's last start, also after it has ended; {} without plug-in.

        Calls and time inside (``builds``, ``build_ns``, ``searches``, ``queries``, ``search_ns``, ``ranges``,
        ``vectors``, ``loads``), ``blob_bytes`` of all indexes saved, ``live_nodes``, ``repairs`` of build
        parameters, ``..._failures``.
        """
        if self.plugin is None or not self._statistics.is_file():
            return {}
        records = list(struct.iter_unpack("<24sQ", self._statistics.read_bytes()))
        (_, version), *counters = records
        if version != 1:
            raise MilvusHostError(f"{self._statistics} has format {version}; known: 1")
        return {name.rstrip(b"\0").decode("ascii"): count for name, count in counters}

    def messages(self) -> list[str]:
        """What the plug-in has written to standard error since the last start.

        That it serves or why not, every build parameter that it had to repair,
        and every build or load that failed, which Milvus does not report.
        """
        return [line for line in self._stderr() if line.startswith("faiss_ext:")]

    def _stderr(self) -> list[str]:
        log = self.logs / "milvus-stderr.log"
        if not log.is_file():
            return []
        with open(log, "rb") as lines:
            lines.seek(self._log_start)
            return lines.read().decode("utf-8", "replace").splitlines()

    def memory(self) -> int:
        """Resident bytes of the process."""
        return self._status("VmRSS") * 1024

    def threads(self) -> int:
        """Threads of the process."""
        return self._status("Threads")

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0])
        raise self._failure(f"the server is ending: /proc does not know its {name}")

    def healthy(self) -> bool:
        """Whether every part of the server says that it is well, and clients are answered."""
        return self._answers(self.metrics_port, "/healthz", "OK") and self._answers(
            self.port, "/v1/vector/collections", '"code":200'
        )

    def _answers(self, port: int, path: str, expected: str) -> bool:
        connection = http.client.HTTPConnection(self.host, port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status == 200 and expected in answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    # ---------------------------------------------------- start and stop

    def start(
        self,
        *,
        timeout: float = 120.0,
        wait: float = 0.0,
        on_wait: Callable[[str], None] | None = None,
        on_step: Callable[[str], None] | None = None,
    ) -> None:
        """Start the server, or start it again; see `start` of the module."""
        if self.running:
            return
        if not self._lock.held:
            self._lock = ServerLock()
        deadline = time.monotonic() + wait
        self._lock.acquire(wait, on_wait)
        try:
            atexit.register(self.stop)
            folder = files.unpack(self._package, self._binaries, on_step)
            if not self._ports:
                ports.await_etcd_port(deadline, on_wait)
                usual = {**files.default_ports(self._package), "metrics_port": METRICS_PORT}
                fixed = {} if self._wanted_port is None else {"proxy_port": self._wanted_port}
                self._ports = ports.choose(usual, fixed)
            files.write_configuration(self._package, self.base_dir, self._ports)
            self._statistics.unlink(missing_ok=True)
            if on_step is not None:
                on_step(f"starting Milvus {self._package.version} in {self.base_dir} (logs: {self.logs})")
            self._process = process = self._launch(folder)
            self._lock.describe(server=process.pid, base_dir=self.base_dir)
            self._await_health(process, timeout)
            if self.plugin is not None and self.serving() is None:
                raise self._failure(f'"SCANN" is the server\'s own, {self.plugin} stayed out')
        except BaseException:  # Ctrl-C too
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and let others start theirs; harmless if it does not run."""
        if os.getpid() != self._owner:
            return  # a fork of the process that has started it
        try:
            self._end(signal.SIGTERM)
        finally:
            self._lock.release()
            atexit.unregister(self.stop)

    def wait(self) -> None:
        """Wait until the server ends by itself, which it only does by a fault: MilvusHostError."""
        process = self._process
        if process is None:
            return
        process.wait()
        if self._process is process:  # it was not stopped
            raise self._failure(f"the server has ended ({_exit_text(process.returncode)})")

    def kill(self) -> None:
        """End the server without any warning, as a power cut would; `start` starts it again."""
        self._end(signal.SIGKILL)

    def restart(self, *, plugin: bool | str | Path | None = None, timeout: float = 120.0) -> None:
        """Stop and start on the same data and ports; `plugin`, if given, replaces what is preloaded."""
        if plugin is not None:
            self.plugin = _resolve(plugin)
        self._end(signal.SIGTERM)
        self.start(timeout=timeout)

    def _environment(self, folder: Path) -> dict[str, str]:
        environment = {**os.environ, **self.environ}
        environment.update(
            DEPLOY_MODE="STANDALONE",
            METRICS_PORT=str(self.metrics_port),
            MILVUS_RUN_DIR=str(self.base_dir / "run"),
        )
        for name, value in self.settings.items():  # Milvus reads any setting from such a variable
            environment[name.replace(".", "_").upper()] = str(value)
        _prepend(environment, "LD_LIBRARY_PATH", folder)
        if self.plugin is not None:
            _prepend(environment, "LD_PRELOAD", self.plugin)
            environment["SCANN_PLUGIN_STATS"] = str(self._statistics)
        return environment

    def _launch(self, folder: Path) -> subprocess.Popen[bytes]:
        with open(self.logs / "milvus-stdout.log", "ab") as out, open(self.logs / "milvus-stderr.log", "ab") as err:
            self._log_start = err.tell()
            return subprocess.Popen(
                [str(folder / "milvus"), "run", "standalone"],
                cwd=self.base_dir,
                env=self._environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,  # Ctrl-C reaches this process, which stops the server
                pass_fds=[self._lock.fileno()],
            )

    def _await_health(self, process: subprocess.Popen[bytes], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not self.healthy():
            if time.monotonic() >= deadline:
                raise self._failure(f"the server is not healthy after {timeout:g} s")
            try:
                process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            raise self._failure(f"the server has ended at its start ({_exit_text(process.returncode)})")

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        try:
            if process.poll() is None:
                process.send_signal(how)
                process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            self._process = None

    def _failure(self, what: str) -> MilvusHostError:
        lines = self._stderr()
        # the first line of an error in Go has the cause, hundreds of lines of stacks follow
        faults = [line for line in lines if line.startswith(("panic:", "fatal error:", "SIG"))]
        tail = "".join(f"\n    {line[:300]}" for line in self.messages()[-3:] + (faults[:3] or lines[-3:]))
        return MilvusHostError(f"{what}; logs: {self.logs}" + (f"; standard error:{tail}" if tail else ""))


def start(
    base_dir: str | Path,
    *,
    port: int | None = None,
    plugin: bool | str | Path = True,
    settings: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    environment: str | Path | None = None,
    binaries: str | Path | None = None,
    timeout: float = 120.0,
    wait: float = 0.0,
    on_wait: Callable[[str], None] | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Server:
    """Start a Milvus server and return it when it is healthy.

    Use it as a context manager or call `Server.stop`; at the end of this
    process it is stopped in any case.

    Parameters
    ----------
    base_dir : path
        Folder of configuration, data and logs; made if missing. A folder that
        a server has used before is served again.
    port : int, optional
        Of the clients; default: 19530 or the next free one.
    plugin : bool or path
        True: preload `plugin_path()`; False: the server as it is; or a library.
    settings : dict, optional
        Entries of milvus.yaml, such as ``{"queryNode.grouping.enabled": False}``.
    environ : dict, optional
        Further environment variables of the server.
    environment : path, optional
        Virtual environment in which the package `milvus` is installed; default:
        this one. The package is not imported, only its files are used.
    binaries : path, optional
        Where the server's files are unpacked once; default: ~/.cache/faiss_ext.
    timeout : float
        Seconds until it must be healthy.
    wait : float
        Seconds to wait for another server of this machine to end.
    on_wait : callable, optional
        Called with a description of that other server.
    on_step : callable, optional
        Called with a line on what begins: the first start unpacks the server's
        files, every start waits until the server is healthy.

    Raises
    ------
    FileNotFoundError
        The package or the plug-in is missing.
    TimeoutError
        Another server runs on this machine; the message names it if it can.
    OSError
        The port is in use.
    MilvusHostError
        The server does not start; the message says why and where its logs are.
    """
    server = Server(
        base_dir,
        port=port,
        plugin=plugin,
        settings=settings,
        environ=environ,
        package=files.find_package(environment),
        binaries=binaries,
    )
    server.start(timeout=timeout, wait=wait, on_wait=on_wait, on_step=on_step)
    return server


def _resolve(plugin: bool | str | Path) -> Path | None:
    """The library meant by `plugin`; a wrong path would only be ignored by the loader."""
    if plugin is False:
        return None
    path = plugin_path() if plugin is True else Path(plugin).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"plug-in {path} does not exist")
    return path


def _engine(plugin: Path) -> Path:
    """What the preloaded library opens in the one process that is a Milvus it knows."""
    return plugin.with_name(f"{plugin.stem}_engine.so")


def _prepend(environment: dict[str, str], name: str, path: Path) -> None:
    if any(mark in str(path) for mark in " :;"):
        raise ValueError(f"{path} cannot be used: {name} takes no path with a blank, ':' or ';'")
    old = environment.get(name)
    environment[name] = f"{path}:{old}" if old else str(path)


def _exit_text(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
