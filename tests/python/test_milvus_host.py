"""Starting and stopping a Milvus server: with a small program in its place.

The real server is met in tests/server.
"""

import lzma
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from faiss_ext import milvus_host
from faiss_ext.milvus_host import lock, ports

TEMPLATE = """\
etcd:
  endpoints: localhost:{{ etcd_port(int): 42379 }}
  log:
    level: {{ etcd_log_level: info }}
    path: {{ etcd_log_path: stdout }}
  data:
    dir: {{ etcd_data_dir }}
proxy:
  port: {{ proxy_port(int): 49530 }}
  tls: {{ server_pem_path: server.pem }}
"""

SERVER = f"""#!{sys.executable}
import ctypes, http.server, os, pathlib, re, signal, struct, sys, threading

mode = os.environ.get("FAKE_MODE", "")
if mode == "dies":
    sys.exit("the disk is on fire")
if mode == "ignores SIGTERM":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if statistics := os.environ.get("SCANN_PLUGIN_STATS"):
    print("faiss_ext: libknowhere_scann.so", mode or "serves", file=sys.stderr, flush=True)
    if mode != "stays out":
        ctypes.CDLL(os.environ["LD_PRELOAD"].replace(".so", "_engine.so"))
        records = [(b"libknowhere_scann.so", 1), (b"pid", os.getpid()), (b"searches", 7)]
        pathlib.Path(statistics).write_bytes(b"".join(struct.pack("<24sQ", *record) for record in records))

class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if mode == "is ill" else 200)
        self.end_headers()
        self.wfile.write(b"OK" if self.path == "/healthz" else b'{{"code":200,"data":[]}}')
    def log_message(self, *_):
        pass

clients = re.search("proxy:\\n  port: (\\d+)", pathlib.Path("configs/milvus.yaml").read_text())[1]
threading.Thread(target=http.server.HTTPServer(("", int(clients)), Answers).serve_forever, daemon=True).start()
http.server.HTTPServer(("", int(os.environ["METRICS_PORT"])), Answers).serve_forever()
"""


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "environment" / "lib" / "python3" / "site-packages" / "milvus"
    (folder / "data" / "bin").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('not to be imported')\n__version__ = '2.3.5'\n")
    (folder / "data" / "config.yaml.template").write_text(TEMPLATE)
    (folder / "data" / "glog.conf").write_text("--minloglevel=1\n")
    (folder / "data" / "bin" / "milvus.lzma").write_bytes(lzma.compress(SERVER.encode()))
    return folder


@pytest.fixture
def start(tmp_path, package, monkeypatch):
    """Starts the program; its lock is not the machine's."""
    monkeypatch.setattr(lock, "LOCK_FILE", tmp_path / "lock")
    monkeypatch.setattr(ports, "ETCD_PEER_PORT", 42380)
    started = []

    def start(mode="", plugin=False, **options):
        server = milvus_host.start(
            options.pop("base_dir", tmp_path / "base"), plugin=plugin, environ={"FAKE_MODE": mode},
            environment=tmp_path / "environment", binaries=tmp_path / "binaries", **options)
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def plugin(tmp_path):
    """Two libraries that Python does not have in its process under these names."""
    maps = pathlib.Path("/proc/self/maps").read_text().split()
    libm = next(path for path in maps if "/libm.so" in path or "/libm-" in path)
    for name in ("libknowhere_scann.so", "libknowhere_scann_engine.so"):
        (tmp_path / name).write_bytes(pathlib.Path(libm).read_bytes())
    return tmp_path / "libknowhere_scann.so"


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_starts_and_stops(start, tmp_path):
    with start() as server:
        pid = server.pid
        assert server.running and server.healthy() and server.threads() >= 1 and server.memory() > 1 << 20
        assert server.uri == f"http://127.0.0.1:{server.port}"
        assert server.serving() is None and server.statistics() == {} and server.messages() == []
        assert str(pid) in repr(server)
        config = (tmp_path / "base" / "configs" / "milvus.yaml").read_text()
        assert "{{" not in config and f"port: {server.port}" in config and "level: info" in config
        assert f"dir: {tmp_path}/base/data/etcd.data" in config
    assert not server.running and gone(pid)
    server.stop()  # harmless
    with pytest.raises(milvus_host.MilvusHostError, match="stopped"):
        server.pid  # noqa: B018


def test_settings_and_environment_reach_the_server(start):
    server = start(settings={"queryNode.grouping.enabled": False})
    environment = pathlib.Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")
    assert b"QUERYNODE_GROUPING_ENABLED=False" in environment
    assert b"COMMON_SESSION_TTL=3" in environment
    assert b"FAKE_MODE=" in environment
    assert not any(entry.startswith(b"LD_PRELOAD=") for entry in environment)


def test_plugin_is_proved(start, plugin):
    server = start(plugin=plugin)
    assert server.serving() == plugin and plugin in server.libraries()
    assert server.statistics() == {"pid": server.pid, "searches": 7}
    assert server.messages() == ["faiss_ext: libknowhere_scann.so serves"]
    assert "LD_PRELOAD" not in os.environ
    server.restart(plugin=False)
    assert server.serving() is None and server.statistics() == {} and server.messages() == []


def test_plugin_that_stays_out(start, plugin):
    with pytest.raises(milvus_host.MilvusHostError, match=r"stayed out; logs: .*\n.*faiss_ext: .* stays out"):
        start("stays out", plugin=plugin)


def test_plugin_that_does_not_exist(start, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.so does not exist"):
        start(plugin=tmp_path / "nowhere.so")


def test_path_that_the_loader_would_split(start, plugin, tmp_path):
    (tmp_path / "a b").mkdir()
    moved = plugin.rename(tmp_path / "a b" / plugin.name)
    with pytest.raises(ValueError, match="LD_PRELOAD takes no path with a blank"):
        start(plugin=moved)


def test_kill_and_start_again(start):
    server = start()
    first, port = server.pid, server.port
    server.kill()
    assert gone(first) and not server.running
    server.start()
    assert server.pid != first and server.port == port
    server.restart()
    assert server.running and server.port == port


def test_death_is_noticed(start):
    server = start()
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(milvus_host.MilvusHostError, match="ended .signal SIGKILL.; logs: "):
        server.wait()
    assert not server.running and not server.healthy()


def test_death_at_the_start(start, tmp_path):
    begun = time.monotonic()
    with pytest.raises(milvus_host.MilvusHostError, match=r"exit code 1.; logs: .*/base/logs(.|\n)*disk is on fire"):
        start("dies")
    assert time.monotonic() - begun < 10
    start()  # the lock is free


def test_illness_at_the_start(start):
    with pytest.raises(milvus_host.MilvusHostError, match="not healthy after 1 s"):
        start("is ill", timeout=1)


def test_server_that_does_not_want_to_end(start, monkeypatch):
    monkeypatch.setattr(milvus_host.server, "STOP_SECONDS", 0.2)
    server = start("ignores SIGTERM")
    pid = server.pid
    server.stop()
    assert gone(pid)


def test_one_server_at_a_time(start, tmp_path):
    server = start()
    holder = f"server {server.pid}, base_dir {tmp_path}/base"
    with pytest.raises(TimeoutError, match=f"one Milvus server per machine: .*{holder}"):
        start(base_dir=tmp_path / "other")
    told = []
    stopper = threading.Timer(0.5, server.stop)
    stopper.start()
    second = start(base_dir=tmp_path / "other", wait=20, on_wait=told.append)
    stopper.join()
    assert second.running and len(told) == 1 and f"base_dir {tmp_path}/base" in told[0]


def test_lock_lives_as_long_as_the_server(tmp_path, start):
    # a starter that is killed leaves its server: nobody else may start one
    server = start()
    server._lock.release()
    with pytest.raises(TimeoutError, match=f"server {server.pid}"):
        start(base_dir=tmp_path / "other")


def test_ports(start):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} is in use"):
            start(port=port)
    assert start(port=port).port == port


def test_port_of_etcd(start):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 42380))
        other.listen()
        with pytest.raises(TimeoutError, match="port 42380, which Milvus' etcd needs, is in use"):
            start()
        told = []

        def leave(holder):
            told.append(holder)
            other.close()

        start(wait=20, on_wait=leave)
        assert told == ["whoever listens on port 42380"]


def test_package_is_found_without_importing_it(tmp_path, package, monkeypatch):
    monkeypatch.syspath_prepend(str(package.parent))
    found = milvus_host.files.find_package()
    assert found.folder == package and found.version == "2.3.5"
    assert "milvus" not in sys.modules
    with pytest.raises(FileNotFoundError, match="no Milvus server in the environment .*: pip install"):
        milvus_host.files.find_package(tmp_path / "nothing")


def test_unpacked_once(tmp_path, package):
    found = milvus_host.files.find_package(tmp_path / "environment")
    folder = milvus_host.files.unpack(found, tmp_path / "binaries")
    made = (folder / "milvus").stat()
    assert made.st_mode & 0o111
    assert milvus_host.files.unpack(found, tmp_path / "binaries") == folder
    assert (folder / "milvus").stat().st_mtime_ns == made.st_mtime_ns
    for damaged in (b"not lzma", lzma.compress(SERVER.encode())[:-20]):
        (package / "data" / "bin" / "milvus.lzma").write_bytes(damaged)
        with pytest.raises(OSError, match="milvus.lzma is damaged .*; pip install .* --force-reinstall"):
            milvus_host.files.unpack(found, tmp_path / "elsewhere")
    assert list((tmp_path / "elsewhere").iterdir()) == [], "half of a server was left"


def test_every_step_is_told(start, tmp_path):
    """The first start unpacks, which takes a while."""
    told = []
    start(on_step=told.append).stop()
    assert [step.split()[0] for step in told] == ["unpacking", "starting"]
    assert f"{tmp_path}/binaries/milvus-2.3.5 (246 MB, this once)" in told[0] and f"{tmp_path}/base/logs" in told[1]
    start(on_step=told.append)
    assert [step.split()[0] for step in told[2:]] == ["starting"]


def command(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "faiss_ext.milvus_host", *arguments], capture_output=True, text=True,
                          timeout=60, **options)


def test_command_plugin_path():
    done = command("plugin-path")
    try:
        assert done.stdout == f"{milvus_host.plugin_path()}\n" and done.returncode == 0
    except FileNotFoundError as missing:
        assert done.returncode == 1 and done.stderr == f"error: {missing}\n"


def test_command_says_what_is_missing(tmp_path):
    done = command("serve", str(tmp_path), "--no-plugin", "--environment", str(tmp_path))
    assert done.returncode == 1 and done.stderr.startswith("error: no Milvus server in the environment")
    assert command("dance").returncode == 2


@pytest.mark.parametrize("option, value, allowed", [
    ("--port", "0", "1..65535"), ("--port", "70000", "1..65535"), ("--port", "x", "1..65535"),
    ("--port", "2380", "but for 2380"), ("--wait", "-1", "0 or more"), ("--wait", "nan", "0 or more"),
])
def test_command_says_what_is_allowed(tmp_path, option, value, allowed):
    done = command("serve", str(tmp_path), option, value)
    assert done.returncode == 2 and repr(value) in done.stderr and allowed in done.stderr
    assert "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_command_serves_until_a_signal(tmp_path, package, how):
    # its own process group, as a terminal gives it; the lock is the machine's only for Milvus
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = ("import sys; from faiss_ext.milvus_host import command, lock, ports; "
            f"lock.LOCK_FILE = {str(tmp_path / 'lock')!r}; ports.ETCD_PEER_PORT = 42380; "
            "sys.exit(command.run(sys.argv[1:]))")
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", str(tmp_path / "base"), "--no-plugin", "--port", str(port),
         "--environment", str(tmp_path / "environment"), "--binaries", str(tmp_path / "binaries")],
        stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        steps = [process.stdout.readline().split()[0] for _ in range(2)]
        assert steps == ["unpacking", "starting"]
        line = process.stdout.readline()
        assert line.startswith(f"http://127.0.0.1:{port}  (pid "), line
        server = int(line.split("pid ")[1].split(";")[0])
        os.killpg(process.pid, how)
        assert process.wait(30) == 0
        assert process.stdout.read() == "stopped\n"
        assert gone(server)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
