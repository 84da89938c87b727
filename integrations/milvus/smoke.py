#!/usr/bin/env python3
"""Does this Milvus serve index type SCANN, and right? Every answer is compared with brute force.

    integrations/milvus/smoke.py http://localhost:19530 [--token user:password]

Makes a collection of its own and drops it. One line a step; exit code 0 if all steps passed, 1 if one
failed, 2 if the server cannot be reached. Needs pymilvus 2.6 or newer and numpy.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import uuid

try:
    import numpy as np
except ImportError:
    sys.exit(f"numpy is not installed for {sys.executable}: pip install pymilvus numpy")

METRICS = ("COSINE", "L2", "IP")
NLIST = 64
K = 10
QUERIES = 50
BATCH = 5000  # rows an insert: a message is limited to 64 MB
TIMEOUT = 300.0  # seconds, of a call and of a build
LEAST_RECALL = 0.99  # all lists visited, 200 candidates compared with raw rows


class Failed(Exception):
    """A step went wrong; the text says how."""


def check(condition, text):
    if not condition:
        raise Failed(text)


def made_rows(n, d):
    """Rows (n, d) around 200 centres, and queries among them."""
    random = np.random.default_rng(7)
    centres = random.standard_normal((200, d))
    rows = centres[random.integers(0, 200, n + QUERIES)] + 0.5 * random.standard_normal((n + QUERIES, d))
    return rows[:n].astype(np.float32), rows[n:].astype(np.float32)


def scores(rows, queries, metric):
    """What Milvus calls the distance (queries, rows); larger is better but for L2."""
    x, q = rows.astype(np.float64), queries.astype(np.float64)
    if metric == "L2":
        return ((q**2).sum(1)[:, None] - 2 * q @ x.T) + (x**2).sum(1)
    if metric == "COSINE":
        x, q = x / np.linalg.norm(x, axis=1)[:, None], q / np.linalg.norm(q, axis=1)[:, None]
    return q @ x.T


def best(found, metric, k, allowed=None):
    """Ids of the k best columns of each row of `found`."""
    order = found if metric == "L2" else -found
    if allowed is not None:
        order = np.where(allowed, order, np.inf)
    return np.argsort(order, axis=1, kind="stable")[:, :k]


class Smoke:
    """One collection with one metric, step by step."""

    def __init__(self, client, metric, rows, queries):
        self.client, self.metric = client, metric
        self.rows, self.queries = rows, queries
        self.tags = np.arange(len(rows)) % 10
        self.scores = scores(rows, queries, metric)
        self.name = f"scann_smoke_{uuid.uuid4().hex[:12]}"

    def create(self):
        from pymilvus import DataType

        schema = self.client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("tag", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.rows.shape[1])
        self.client.create_collection(self.name, schema=schema, consistency_level="Strong", timeout=TIMEOUT)
        return self.name

    def insert(self):
        for start in range(0, len(self.rows), BATCH):
            ids = range(start, min(start + BATCH, len(self.rows)))
            batch = [{"id": i, "tag": int(self.tags[i]), "vector": self.rows[i].tolist()} for i in ids]
            self.client.insert(self.name, batch, timeout=TIMEOUT)
        self.client.flush(self.name, timeout=TIMEOUT)
        return f"{len(self.rows)} rows of {self.rows.shape[1]} dimensions"

    def index(self):
        wanted = self.client.prepare_index_params()
        # with raw data, as by default: the client writes True where Milvus' own SCANN reads only true
        wanted.add_index(
            "vector", index_type="SCANN", index_name="vector", metric_type=self.metric, params={"nlist": NLIST}
        )
        start = time.monotonic()
        # not sync: that wait begins anew after its timeout
        self.client.create_index(self.name, wanted, timeout=TIMEOUT, sync=False)
        while True:
            state = self.client.describe_index(self.name, "vector", timeout=TIMEOUT)
            if state.get("state", "Finished") == "Finished" and not state.get("pending_index_rows", 0):
                break
            check(state.get("state") != "Failed", f"the build failed: {state}")
            check(time.monotonic() - start < TIMEOUT, f"not built after {TIMEOUT:g} s: {state}")
            time.sleep(0.5)
        return f"{state.get('index_type')} built in {time.monotonic() - start:.1f} s"

    def load(self):
        self.client.load_collection(self.name, timeout=TIMEOUT)
        return str(self.client.get_load_state(self.name)["state"])

    def ask(self, limit=K, expression="", **params):
        """Per query: ids and distances."""
        params = params or {"nprobe": NLIST, "reorder_k": 20 * K}
        found = self.client.search(
            self.name,
            data=self.queries.tolist(),
            anns_field="vector",
            filter=expression,
            limit=limit,
            search_params={"metric_type": self.metric, "params": params},
            timeout=TIMEOUT,
        )
        return [([hit["id"] for hit in hits], [hit["distance"] for hit in hits]) for hits in found]

    def compare(self, found, truth):
        """Recall; the distances must be those of the ids."""
        for row, (ids, distances) in enumerate(found):
            check(len(set(ids)) == len(ids) == truth.shape[1], f"query {row}: {len(set(ids))} different ids")
            exact = self.scores[row, ids]
            wrong = np.abs(exact - distances) > 1e-3 * np.maximum(1, np.abs(exact))
            check(not wrong.any(), f"query {row}: distance {distances} of ids {ids}, brute force says {exact}")
        recall = np.mean([len(set(ids) & set(right)) / len(right) for (ids, _), right in zip(found, truth.tolist())])
        check(recall >= LEAST_RECALL, f"recall@{truth.shape[1]} {recall:.3f} (expected: >= {LEAST_RECALL})")
        return f"recall@{truth.shape[1]} {recall:.3f}"

    def search(self):
        return self.compare(self.ask(), best(self.scores, self.metric, K))

    def filter(self):
        truth = best(self.scores, self.metric, K, self.tags == 3)
        return self.compare(self.ask(expression="tag == 3"), truth)

    def range(self):
        """What lies between the 5th and the 30th neighbour of the first query."""
        ranked = np.sort(self.scores[0]) if self.metric == "L2" else -np.sort(-self.scores[0])
        near, far = float(ranked[4] + ranked[3]) / 2, float(ranked[29] + ranked[30]) / 2
        low, high = min(near, far), max(near, far)
        found = self.ask(limit=1000, nprobe=NLIST, radius=far, range_filter=near)
        for row, (ids, _) in enumerate(found):
            exact = self.scores[row]
            slack = 1e-4 * max(1, abs(high))  # single precision at the ends
            surely = np.flatnonzero((exact > low + slack) & (exact < high - slack))
            possible = np.flatnonzero((exact > low - slack) & (exact < high + slack))
            surely = surely if len(surely) <= 1000 else surely[:0]  # more than were asked for
            check(set(surely) <= set(ids), f"query {row}: {len(set(surely) - set(ids))} hits are missing")
            check(set(ids) <= set(possible), f"query {row}: {len(set(ids) - set(possible))} hits are out of range")
        return f"{len(found[0][0])} hits between {near:.4g} and {far:.4g}"

    def ours(self):
        """This library names value and range; Milvus' own SCANN has other words."""
        try:
            self.ask(reorder_k=K - 1)
        except Exception as error:
            check("(allowed: >= k)" in str(error), f"refused, but not by this library: {error}")
            return f"reorder_k = {K - 1} is refused with its range"
        raise Failed(f"reorder_k = {K - 1} below k = {K} was accepted: Milvus' own SCANN serves")

    NEEDED = (create, insert, index, load)  # the others need them
    ASKED = (search, filter, range, ours)

    def passes(self, step):
        what = f"{self.metric:6} {step.__name__:6}"
        try:
            print(f"ok   {what} {step(self)}", flush=True)
        except Exception as error:  # what pymilvus raises differs between its versions
            text = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"FAIL {what} {text[:500]}", flush=True)
            return False
        return True

    def run(self):
        """Whether all steps passed."""
        try:
            return all(map(self.passes, self.NEEDED)) and all([self.passes(step) for step in self.ASKED])
        finally:
            self.client.drop_collection(self.name, timeout=TIMEOUT)


def connected(uri, token):
    logging.disable(logging.CRITICAL)  # pymilvus' tracebacks hide our lines
    try:
        from pymilvus import MilvusClient

        if not hasattr(MilvusClient, "get_server_version"):
            raise ImportError
    except ImportError:
        print(f"FAIL pymilvus 2.6 or newer is not installed for {sys.executable}: pip install -U pymilvus", flush=True)
        sys.exit(2)
    try:
        client = MilvusClient(uri=uri, token=token, timeout=30)
        version = client.get_server_version()
    except Exception as error:
        print(f"FAIL connect to {uri}: {error}", flush=True)
        sys.exit(2)
    print(f"ok   connect: {uri} is Milvus {version}", flush=True)
    return client


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("uri", help="such as http://localhost:19530")
    parser.add_argument("--token", default="", help="user:password")
    parser.add_argument("--rows", type=int, default=20000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--metrics", default=",".join(METRICS), help=f"some of {','.join(METRICS)}")
    given = parser.parse_args(arguments)
    metrics = given.metrics.split(",")
    if not set(metrics) <= set(METRICS):
        parser.error(f"--metrics {given.metrics} (allowed: some of {','.join(METRICS)})")
    if given.rows < 5000 or given.dim < 2 or given.dim % 2:
        parser.error(f"--rows {given.rows} --dim {given.dim} (allowed: >= 5000 rows; an even number of dimensions)")
    rows, queries = made_rows(given.rows, given.dim)
    client = connected(given.uri, given.token)
    passed = [Smoke(client, metric, rows, queries).run() for metric in metrics]
    print(f"{sum(passed)} of {len(passed)} metrics passed")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
