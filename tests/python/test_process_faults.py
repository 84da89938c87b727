"""Processes that are killed, stopped, interrupted, forked or run out of memory
and of disk: nothing is lost, and no half of anything is opened."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from conftest import made

import faiss_ext as fx

KIND = "IVF16,ScaNN(soar_lambda=1),SQ8,RFlat"

HEAD = """
import os, resource, signal, sys, threading, time
import numpy as np
import faiss_ext as fx

def rows(n, seed, d=32):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)

def built(n, seed):
    index = fx.index_factory(32, "IVF16,ScaNN(soar_lambda=1),SQ8,RFlat")
    index.train(rows(2000, 1))
    index.add(rows(n, seed))
    return index

def answers(index):
    return [a.tobytes() for a in index.search(rows(50, 9), 10, nprobe=16)]

def ready():
    print("ready", flush=True)
"""


def start(code, *arguments):
    """A process that runs the code after HEAD; it has said "ready"."""
    text = HEAD + textwrap.dedent(code)
    command = [sys.executable, "-c", text, *map(str, arguments)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = child.stdout.readline()
    assert line == "ready\n", child.communicate()[1]
    return child


def finish(child, limit=150):
    """What the process prints further; fails unless it ends well."""
    try:
        out, err = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        child.kill()
        raise AssertionError(f"the process hangs: {child.communicate()[1]}") from None
    assert child.returncode == 0, f"{child.returncode}: {err}"
    return out


def run(code, *arguments, limit=150):
    return finish(start(code, *arguments), limit)


def ntotal_of(path):
    """Of a whole file: reading without mmap verifies all checksums."""
    return fx.read_index(path).ntotal


def check_leftovers(directory, path):
    """What a dead process had begun is beside the file, under another name: of one save at most."""
    others = [other.name for other in directory.iterdir() if other != path]
    assert len(others) <= 1 and all(name.startswith("faiss_ext-") for name in others)


# ---- killed ----


def test_killed_while_saving(tmp_path):
    path = tmp_path / "directory" / "index"
    path.parent.mkdir()
    rows = np.random.default_rng(1).standard_normal((9000, 32)).astype(np.float32)
    fx.write_index(made(KIND, rows), tmp_path / "large")
    fx.write_index(made(KIND, rows[:3000]), tmp_path / "small")
    save = """
    small, large = [fx.read_index(name) for name in sys.argv[2:]]
    fx.write_index(small, sys.argv[1])
    ready()
    while True:
        fx.write_index(large, sys.argv[1])
        fx.write_index(small, sys.argv[1])
    """
    seen = set()
    for attempt in range(6):
        child = start(save, path, tmp_path / "small", tmp_path / "large")
        time.sleep(0.004 * (attempt * attempt + 1))
        child.kill()
        child.communicate()
        assert child.returncode == -signal.SIGKILL
        seen.add(ntotal_of(path))
        assert fx.read_index(path, mmap=True).ntotal in (3000, 9000)
        check_leftovers(path.parent, path)
    assert seen <= {3000, 9000}
    fx.write_index(fx.read_index(tmp_path / "small"), path)
    assert list(path.parent.iterdir()) == [path], "the next save removes what dead ones left"


def test_killed_while_building(tmp_path):
    path = tmp_path / "index"
    fx.write_index(made(KIND, np.random.rand(500, 32).astype(np.float32)), path)
    before = path.read_bytes()
    build = """
    ready()
    fx.write_index(built(100000, 2), sys.argv[1])
    """
    for wait in (0, 0.05, 0.15):
        child = start(build, path)
        time.sleep(wait)
        child.kill()
        child.communicate()
        if child.returncode == 0:
            break  # it was done before
        check_leftovers(tmp_path, path)
        assert path.read_bytes() == before or ntotal_of(path) == 100000


# ---- stopped, interrupted, forked ----


def test_stopped_and_continued(tmp_path):
    build = """
    ready()
    fx.write_index(built(20000, 2), sys.argv[1])
    """
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    run(build, undisturbed)
    child = start(build, stopped)
    for _ in range(10):
        time.sleep(0.01)
        child.send_signal(signal.SIGSTOP)
        time.sleep(0.01)
        child.send_signal(signal.SIGCONT)
    finish(child)
    assert stopped.read_bytes() == undisturbed.read_bytes()


def test_signals_during_files(tmp_path):
    out = run(
        """
        index = built(20000, 2)
        expected, seen = answers(index), 0
        def handler(number, frame):
            global seen
            seen += 1
        signal.signal(signal.SIGALRM, handler)
        signal.siginterrupt(signal.SIGALRM, True)  # calls end with EINTR
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        ready()
        for i in range(10):
            fx.write_index(index, sys.argv[1])
            for mmap in (False, True):
                assert answers(fx.read_index(sys.argv[1], mmap=mmap)) == expected
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(seen)
        """,
        tmp_path / "index",
    )
    assert int(out) > 10


def test_forked_while_another_thread_searches():
    run(
        """
        index = built(5000, 2)
        expected, stop = answers(index), False
        def search():
            while not stop:
                assert answers(index) == expected
        threads = [threading.Thread(target=search) for _ in range(2)]
        for thread in threads:
            thread.start()
        ready()
        for i in range(8):
            child = os.fork()
            if child == 0:
                signal.alarm(20)  # a child that hangs dies
                good = answers(index) == expected
                os._exit(0 if good else 1)
            assert os.waitpid(child, 0)[1] == 0, i
        stop = True
        for thread in threads:
            thread.join()
        assert answers(index) == expected
        """
    )


@pytest.mark.parametrize("busy", ["searching", "adding", "waiting to add"])
def test_children_of_busy_parents_search_and_add(busy):
    """Another thread of the parent holds the index at the moment of the fork, or waits for it."""
    run(
        """
        busy = sys.argv[1]
        index = built(5000, 2)
        more, stop = rows(300, 5), False
        def search():
            while not stop:
                index.search(more, 100, nprobe=16)
        def add():
            while not stop:
                index.add(rows(2000, 4))
                index.remove_ids(np.arange(5000, index.ntotal))
        work = {"searching": [search, search], "adding": [add], "waiting to add": [search, add]}
        threads = [threading.Thread(target=one, daemon=True) for one in work[busy]]
        for thread in threads:
            thread.start()
        ready()
        for i in range(15):
            time.sleep(0.003 * i)
            child = os.fork()
            if child == 0:
                signal.alarm(20)  # a child that hangs dies
                ids = np.arange(10**6, 10**6 + len(more))
                before = index.ntotal
                index.search(more, 10)
                index.add_with_ids(more, ids)
                good = index.ntotal == before + len(more)
                good &= (index.search(more, 1, nprobe=16)[1][:, 0] == ids).all()
                good &= index.remove_ids(ids) == len(more)
                grandchild = os.fork()
                if grandchild == 0:
                    index.add_with_ids(more, ids)
                    os._exit(0)
                os._exit(0 if good and os.waitpid(grandchild, 0)[1] == 0 else 1)
            assert os.waitpid(child, 0)[1] == 0, i
        stop = True
        for thread in threads:
            thread.join()
        index.add(more)
        """,
        busy,
    )


@pytest.mark.parametrize("name", ["SCANN", "IVF_FLAT"])
def test_children_of_parents_with_busy_nodes(name):
    """A node's locks are free in a child, whatever the parent's threads do; a half changed node says so."""
    run(
        """
        from faiss_ext import knowhere
        name, halves, stop = sys.argv[1], 0, False
        given = {"nlist": 16, "metric_type": "L2"}
        x, more = rows(3000, 2), rows(300, 5)
        def made():
            node = knowhere.IndexFactory().create(name)
            node.build(x, **given)
            return node
        searched, ranged, added = made(), made(), made()
        row_iterator = searched.iterate(x[:1])[0]
        def search():
            while not stop:
                searched.search(more, k=100, nprobe=16)
        def iterate():
            while not stop:
                ranged.range_search(more[:20], radius=9.0)
                list(ranged.iterate(more[:1])[0])
        def add():
            while not stop:
                added.add(rows(500, 4), **given)
                if added.count > 10000:
                    added.build(x, **given)
        threads = [threading.Thread(target=one, daemon=True) for one in (search, search, iterate, add)]
        for thread in threads:
            thread.start()
        ready()
        for i in range(6):
            time.sleep(0.003 * i)
            child = os.fork()
            if child == 0:
                signal.alarm(40)  # a child that hangs dies
                for node in (searched, ranged):
                    node.search(more, k=10)
                    node.add(more, **given)
                    assert node.count == len(x) + len(more)
                    assert (node.search(more, k=1, nprobe=16)[1][:, 0] >= len(x)).all()
                    node.range_search(more[:2], radius=9.0)
                next(row_iterator)
                half = False
                try:
                    added.add(more, **given)
                except RuntimeError as error:
                    half = "when this process was forked" in str(error)
                    assert half, error
                added.build(x, **given)
                assert added.count == len(x)
                assert added.search(x[:5], k=1, nprobe=16)[1][:, 0].tolist() == [0, 1, 2, 3, 4]
                os._exit(2 if half else 0)
            code = os.waitpid(child, 0)[1]
            assert os.WIFEXITED(code) and os.WEXITSTATUS(code) in (0, 2), (i, code)
            halves += os.WEXITSTATUS(code) == 2
        print("half changed:", halves)
        stop = True
        for thread in threads:
            thread.join()
        searched.add(more, **given)
        """,
        name,
    )


def test_child_of_a_parent_that_adds_for_long():
    """A fork does not wait for ever; the half-changed index of the child says what it is."""
    run(
        """
        index, other = built(500, 1), built(500, 2)
        running, done = threading.Event(), threading.Event()
        def progress(*_):
            running.set()
            done.wait(60)
        thread = threading.Thread(target=lambda: index.add(rows(2000, 1), progress))
        thread.start()
        running.wait()
        ready()
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            other.add(rows(10, 3))
            for call in (lambda: index.add(rows(10, 3)), lambda: index.search(rows(1, 1), 1)):
                try:
                    call()
                    os._exit(1)
                except RuntimeError as error:
                    assert "when this process was forked" in str(error), error
            os._exit(0)
        done.set()
        assert os.waitpid(child, 0)[1] == 0
        thread.join()
        index.add(rows(10, 3))
        """
    )


def test_fork_in_a_progress_callback():
    """Parent and child both go on with the call."""
    run(
        """
        index = fx.index_factory(32, "IVF16,ScaNN")
        children = []
        def progress(*_):
            if not children:
                children.append(os.fork())
        ready()
        index.train(rows(2000, 1), progress=progress)
        signal.alarm(20)
        index.add(rows(100, 3))
        assert index.search(rows(1, 3), 1, nprobe=16)[1][0, 0] >= 0
        if children[0] != 0:
            assert os.waitpid(children[0], 0)[1] == 0
        """
    )


# ---- out of memory ----

LIMITED = """
def limit(megabytes):
    # resident or not: what is mapped now, and so much more
    pages = int(open("/proc/self/statm").read().split()[0])
    size = pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (size, hard))

def refused(call, *arguments):
    try:
        call(*arguments)
    except (MemoryError, RuntimeError):
        return 1
    return 0

soft, hard = resource.getrlimit(resource.RLIMIT_AS)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize("warm", [True, False])
def test_memory_that_is_limited(tmp_path, warm):
    """Also where the threads of a first loop cannot be had."""
    out = run(
        LIMITED
        + textwrap.dedent("""
        path = sys.argv[1]
        fx.write_index(built(10000, 2), path)
        if sys.argv[2] == "False":
            child = os.fork()  # has no threads yet
            if child != 0:
                sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        index = fx.read_index(path)
        more = rows(60000, 3)
        fresh = fx.index_factory(32, "IVF64,ScaNN,RFlat")
        if sys.argv[2] == "True":
            before = answers(index)
        size = os.path.getsize(path)
        ready()
        failed = 0
        for megabytes in (0, 2, 8, 16):
            limit(megabytes)
            failed += refused(index.add, more)
            failed += refused(fresh.train, more)
            failed += refused(fx.clone_index, index)
            failed += refused(fx.serialize_index, index)
            failed += refused(fx.read_index, path)
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
            if index.ntotal != 10000:
                break  # there was enough
            now = answers(index)
            assert sys.argv[2] == "False" or now == before
            fresh = fx.index_factory(32, "IVF64,ScaNN,RFlat")
        if index.ntotal == 10000:
            index.add(more)
        assert index.ntotal == 70000
        print(failed)
        """),
        tmp_path / "index",
        warm,
    )
    assert int(out) > 5


# ---- out of disk ----


@contextlib.contextmanager
def small_disk(directory):
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_full_disk(tmp_path):
    rows = np.random.default_rng(1).standard_normal((20000, 32)).astype(np.float32)
    small, large = made(KIND, rows[:1000]), made(KIND, rows)
    with small_disk(tmp_path):
        path = tmp_path / "index"
        fx.write_index(small, path)
        before = path.read_bytes()
        for _ in range(2):
            with pytest.raises(RuntimeError, match="No space left"):
                fx.write_index(large, path)
            assert path.read_bytes() == before
            assert os.listdir(tmp_path) == ["index"]
        fx.write_index(small, path)
        assert path.read_bytes() == before
    assert large.ntotal == 20000


def test_file_size_that_is_limited(tmp_path):
    run(
        """
        path = sys.argv[1]
        small, large = built(500, 2), built(20000, 3)
        fx.write_index(small, path)
        before, expected = open(path, "rb").read(), answers(large)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100000, resource.RLIM_INFINITY))
        ready()
        for i in range(3):
            try:
                fx.write_index(large, path)
                raise AssertionError("written")
            except RuntimeError as error:
                assert "File too large" in str(error), error
            assert open(path, "rb").read() == before
            assert os.listdir(os.path.dirname(path)) == ["index"]
            assert answers(large) == expected
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        fx.write_index(large, path)
        assert fx.read_index(path).ntotal == 20000
        """,
        tmp_path / "index",
    )
