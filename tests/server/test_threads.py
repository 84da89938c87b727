"""Eight clients at once: searches, inserts, deletes, builds, loads.

FAISS_EXT_SERVER_SECONDS (default 20) is how long they go on.
"""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

pytest.importorskip("pymilvus")
import client  # noqa: E402
import reference  # noqa: E402

SECONDS = float(os.environ.get("FAISS_EXT_SERVER_SECONDS", "20"))
ROWS = 2500
METRIC = "IP"
EXACT = {"nprobe": 32, "reorder_k": ROWS}


@pytest.fixture(scope="module")
def x():
    return reference.words(ROWS)


@pytest.fixture(scope="module")
def q():
    return reference.words(200, skip=ROWS)


class Clients:
    """Threads that repeat a step until the time is over or one of them fails."""

    def __init__(self) -> None:
        self.deadline = time.monotonic() + SECONDS
        self.failures: list[BaseException] = []
        self.rounds: dict[str, int] = {}
        self.threads: list[threading.Thread] = []

    def start(self, name: str, step) -> None:
        def repeat() -> None:
            self.rounds[name] = 0
            try:
                while time.monotonic() < self.deadline and not self.failures:
                    step(self.rounds[name])
                    self.rounds[name] += 1
            except BaseException as failure:
                self.failures.append(failure)

        thread = threading.Thread(target=repeat, name=name)
        self.threads.append(thread)
        thread.start()

    def alive(self) -> bool:
        return any(thread.is_alive() for thread in self.threads)

    def join(self) -> None:
        for thread in self.threads:
            thread.join()
        if self.failures:
            raise self.failures[0]


def searching(collection, x, q, seed):
    random = np.random.default_rng(seed)

    def step(_):
        some = q[random.choice(len(q), random.choice([1, 1, 1, 20]), replace=False)]
        client.assert_exact(client.ask(collection, some, 10, METRIC, **EXACT), x, some, 10, METRIC)
        tag = int(random.integers(10))
        allowed = np.arange(len(x)) % 10 == tag
        found = client.ask(collection, some, 10, METRIC, expr=f"tag == {tag}", **EXACT)
        client.assert_exact(found, x, some, 10, METRIC, allowed)

    return step


def changing(collection, x, first):
    """Rows that only this thread adds and takes away, at twice the length of those that stay."""

    def step(round_):
        rows = 2 * x[:20] if round_ % 2 else 2 * x[20:40]
        ids = list(range(first, first + len(rows)))
        client.insert(collection, rows, first=first, flush=False)
        kept = collection.query(f"id in {ids}", timeout=client.TIMEOUT)
        assert sorted(row["id"] for row in kept) == ids
        found = client.ask(collection, rows[:3], 10, "L2", **EXACT)
        for hits, own in zip(found, ids):
            assert own in hits.ids and hits.distances[hits.ids.index(own)] <= 1e-3, "an inserted row is not found"
        collection.delete(f"id in {ids}", timeout=client.TIMEOUT)
        found = client.ask(collection, rows[:3], 50, "L2", **EXACT)
        assert not {i for hits in found for i in hits.ids} & set(ids), "a deleted row is found"

    return step


def building(x, q):
    def step(_):
        collection = client.made(x[:1200], METRIC, nlist=16)
        client.assert_exact(client.ask(collection, q[:5], 10, METRIC, **EXACT), x[:1200], q[:5], 10, METRIC)
        client.drop(collection)

    return step


def loading(collection, x, q):
    def step(_):
        collection.release(timeout=client.TIMEOUT)
        collection.load(timeout=client.TIMEOUT)
        client.assert_exact(client.ask(collection, q[:5], 10, METRIC, **EXACT), x, q[:5], 10, METRIC)

    return step


@pytest.mark.served("searches", "filtered", "builds", "loads")
def test_eight_clients(server, x, q):
    client.wait_until(lambda: server.statistics()["live_nodes"] == 0, "no node is left of other tests")
    before = server.statistics()
    shared, reloaded = client.made(x, METRIC, nlist=32), client.made(x, METRIC, nlist=32)
    changed = client.made(x, "L2", nlist=32)
    clients = Clients()
    for seed in range(3):
        clients.start(f"search {seed}", searching(shared, x, q, seed))
    for number in range(2):
        clients.start(f"change {number}", changing(changed, x, first=100_000 * (number + 1)))
    for number in range(2):
        clients.start(f"build {number}", building(x, q))
    clients.start("load", loading(reloaded, x, q))

    samples = []  # (resident bytes, threads)
    while clients.alive():
        samples.append((server.memory(), server.threads()))
        time.sleep(0.25)
    clients.join()
    assert all(clients.rounds.values()), clients.rounds

    after = server.statistics()
    for counter in ("build_failures", "load_failures", "search_failures", "range_failures"):
        assert after[counter] == before[counter], counter
    for collection in (shared, reloaded, changed):
        client.drop(collection)
    client.wait_until(lambda: server.statistics()["live_nodes"] == 0, "every node is freed")
    steady(samples)


def steady(samples) -> None:
    """No growth from the second quarter of the time to the last."""
    quarter = len(samples) // 4
    early, late = (np.median(part, axis=0) for part in (samples[quarter : 2 * quarter], samples[3 * quarter :]))
    text = f"memory {early[0] / 1e6:.0f} -> {late[0] / 1e6:.0f} MB, threads {early[1]:.0f} -> {late[1]:.0f}"
    assert late[0] <= 1.25 * early[0], text
    assert late[1] <= early[1] + 8, text
