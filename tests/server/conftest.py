"""One Milvus server for all tests, and the proof that our library answers.

Its folder, build/server-tests, stays after the tests for its logs.
"""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest

from faiss_ext import milvus_host

BUILD = Path(__file__).resolve().parents[2] / "build"
BASE_DIR = BUILD / "server-tests"
BINARIES = BUILD / "milvus"
WAIT_FOR_OTHERS = 600.0  # seconds
# Milvus asks itself more often what there is to do: loads and releases take less time
SETTINGS = {"queryCoord.checkInterval": 200, "queryCoord.checkHandoffInterval": 500, "queryCoord.distPullInterval": 100}


def pytest_configure(config):
    config.addinivalue_line("markers", "served(*counters): counters of our node that the test must raise")
    config.addinivalue_line("filterwarnings", "ignore:.*ORM-style PyMilvus API")


@pytest.fixture(scope="session")
def server():
    """A server with the plug-in."""
    pytest.importorskip("pymilvus")
    import client

    if platform.machine() != "x86_64":
        pytest.skip(f"the server of PyPI is for x86-64, this is {platform.machine()}")
    try:
        milvus_host.files.find_package()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    shutil.rmtree(BASE_DIR, ignore_errors=True)
    with milvus_host.start(BASE_DIR, settings=SETTINGS, binaries=BINARIES, wait=WAIT_FOR_OTHERS) as started:
        client.connect(started)
        yield started


@pytest.fixture(scope="module", autouse=True)
def nothing_left(server):
    """Every file: what a failed test leaves does not stand beside those that follow."""
    import client

    yield
    client.drop_all()


@pytest.fixture(autouse=True)
def served(request, server):
    """Every test: our library is in the process, and its node was called as the test's marker says."""
    assert server.serving() == milvus_host.plugin_path()
    before = server.statistics()
    yield
    assert server.serving() == milvus_host.plugin_path()
    after = server.statistics()
    marker = request.node.get_closest_marker("served")
    for counter in marker.args if marker else ["searches"]:
        again = 0 if after["pid"] != before["pid"] else before[counter]
        assert after[counter] > again, f"the test did not reach our node: {counter} stayed {again}"
