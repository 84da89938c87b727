"""The installed wheel beside other libraries with a BLAS, an OpenMP or a Faiss.

usage: python beside.py [MODULE...]    (packaging/test-wheel calls it)

Each order in which the modules can be imported gets a process of its own. In
each, all of them do some work in turn, twice, and ours must give the same
results to the last bit. A module that is not installed is a line, and left out.
"""

import hashlib
import importlib
import importlib.util
import itertools
import subprocess
import sys

KNOWN = ("numpy", "faiss", "scipy", "sklearn", "torch", "scann")


def work_of_numpy():
    import numpy as np

    a = np.random.default_rng(1).random((300, 300))
    np.testing.assert_allclose(np.linalg.inv(a) @ a, np.eye(300), atol=1e-6)


def work_of_faiss():
    import faiss
    import numpy as np

    x = np.random.default_rng(2).random((5000, 32), dtype=np.float32)
    index = faiss.index_factory(32, "IVF16,PQ8x4fs,RFlat")
    index.train(x)
    index.add(x)
    assert (index.search(x[:9], 1)[1][:, 0] == np.arange(9)).mean() > 0.5
    try:
        faiss.index_factory(32, "NoSuchIndex")
    except RuntimeError:
        return
    raise AssertionError("an exception of faiss was lost")


def work_of_scipy():
    import numpy as np
    import scipy.linalg

    a = np.random.default_rng(3).random((200, 200))
    q, r = scipy.linalg.qr(a)
    np.testing.assert_allclose(q @ r, a, atol=1e-9)


def work_of_sklearn():
    import numpy as np
    from sklearn.cluster import KMeans

    x = np.random.default_rng(4).random((1000, 16))
    assert KMeans(8, n_init=1, random_state=0).fit(x).inertia_ > 0


def work_of_torch():
    import torch

    a = torch.eye(400) + torch.rand(400, 400) / 1000
    assert torch.allclose(torch.linalg.inv(a) @ a, torch.eye(400), atol=1e-3)


def work_of_scann():
    import numpy as np
    import scann

    x = np.random.default_rng(5).random((1000, 16), dtype=np.float32)
    searcher = scann.scann_ops_pybind.builder(x, 1, "squared_l2").score_brute_force().build()
    assert (searcher.search_batched(x[:5])[0][:, 0] == np.arange(5)).all()


def work_of_faiss_ext():
    import numpy as np

    import faiss_ext as fx

    x = np.random.default_rng(6).standard_normal((5000, 32), dtype=np.float32)
    digest = hashlib.sha256()
    fx.omp_set_num_threads(2)
    for factory in ("IVF32,ScaNN,RFlat", "OPQ8,IVF32,ScaNN,RFlat"):
        index = fx.index_factory(32, factory)
        index.train(x)
        index.add(x)
        distances, labels = index.search(x[:100], 10, nprobe=8, reorder_k=100)
        digest.update(distances.tobytes() + labels.tobytes())
        assert fx.deserialize_index(fx.serialize_index(index)).ntotal == 5000
        if not factory.startswith("OPQ"):  # Faiss' training: sums in the order of BLAS
            results = digest.hexdigest()
        assert (labels[:, 0] == np.arange(100)).mean() > 0.9, factory
    try:
        fx.index_factory(32, "NoSuchIndex")
    except ValueError:
        return results
    raise AssertionError("an exception of faiss_ext was lost")


def main():
    if sys.argv[1:2] == ["--order"]:
        order = sys.argv[2].split(",")
        for name in order:
            importlib.import_module(name)
        for _ in range(2):
            for name in order:
                results = globals()[f"work_of_{name}"]()
                if name == "faiss_ext":
                    print(results)
        return
    asked = sys.argv[1:] or KNOWN
    unknown = set(asked) - set(KNOWN)
    if unknown:
        sys.exit(f"unknown modules {sorted(unknown)}; known are {', '.join(KNOWN)}")
    there = [name for name in asked if importlib.util.find_spec(name)]
    for name in asked:
        if name not in there:
            print(f"skipped: {name} is not installed")
    seen, failures, orders = set(), 0, []
    for place in range(len(there) + 1):
        orders += [tuple(there[:place]) + ("faiss_ext",) + tuple(there[place:])]
        orders += [tuple(there[::-1][:place]) + ("faiss_ext",) + tuple(there[::-1][place:])]
    if len(there) <= 3:
        orders = list(itertools.permutations([*there, "faiss_ext"]))
    for order in dict.fromkeys(orders):
        run = subprocess.run([sys.executable, __file__, "--order", ",".join(order)], capture_output=True, text=True)
        results = set(run.stdout.split())
        seen |= results
        if run.returncode != 0 or len(results) != 1:
            failures += 1
            print(
                f"FAILED: {' '.join(order)}: exit code {run.returncode}, {len(results)} results\n{run.stderr[-2000:]}"
            )
        else:
            print(f"ok: {' '.join(order)}", flush=True)
    if len(seen) != 1:
        failures += 1
        print(f"FAILED: results depend on the order of imports: {sorted(seen)}")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
