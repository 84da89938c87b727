"""faiss-cpu and faiss_ext in one process, imported in both orders: two copies
of Faiss, each with its own objects, exceptions and threads."""

import importlib
import subprocess
import sys
import tempfile
import threading

import numpy as np
import pytest
from abuse import run_here

pytest.importorskip("faiss", reason="faiss-cpu is not installed")


def both(first):
    second = "faiss_ext" if first == "faiss" else "faiss"
    module = {name: importlib.import_module(name) for name in (first, second)}
    faiss, fx = module["faiss"], module["faiss_ext"]
    x = np.random.default_rng(0).standard_normal((3000, 16), dtype=np.float32)
    theirs = faiss.index_factory(16, "IVF16,Flat")
    theirs.train(x)
    theirs.add(x)
    theirs.nprobe = 16
    for description in ("IVF16,ScaNN,RFlat", "IVF16,Flat", "IDMap2,PCA16,IVF16_HNSW8,ScaNN,RFlat"):
        ours = fx.index_factory(16, description)
        ours.train(x)
        ours.add_with_ids(x, np.arange(3000))
        wrong = []

        def work(ours=ours, wrong=wrong):
            for _ in range(5):
                a = theirs.search(x[:50], 5)[1]
                b = ours.search(x[:50], 5, nprobe=16)[1]
                if (a != b).mean() > 0.01:
                    wrong.append((a, b))

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        for _ in range(20):  # exceptions of one are none of the other's
            for call, error in (
                (lambda ours=ours: ours.search(x, 5, nprobe=17), ValueError),
                (lambda: fx.index_factory(16, "nonsense"), ValueError),
                (lambda: faiss.index_factory(16, "nonsense"), RuntimeError),
                (lambda: faiss.read_index("/nowhere"), RuntimeError),
                (lambda: fx.read_index("/nowhere"), RuntimeError),
            ):
                try:
                    call()
                except error:
                    continue
                raise AssertionError("nothing was raised")
    ours = fx.index_factory(16, "IVF16,ScaNN,RFlat")
    ours.train(x)
    ours.add(x)
    with tempfile.NamedTemporaryFile() as file:
        fx.export_to_faiss(ours, file.name)
        exported = faiss.read_index(file.name)
    assert exported.ntotal == 3000
    print("fine", flush=True)


@pytest.mark.parametrize("first", ["faiss", "faiss_ext"])
def test_in_one_process(first):
    run_here(__file__, "both", first)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads ELF")
def test_the_module_exports_its_init_function_alone():
    from faiss_ext import _faiss_ext

    try:
        run = subprocess.run(
            ["nm", "--dynamic", "--defined-only", "--format=posix", _faiss_ext.__file__],
            capture_output=True,
            text=True,
            check=True,
        )
    except FileNotFoundError:
        pytest.skip("there is no nm")
    assert [line.split()[0] for line in run.stdout.splitlines()] == ["PyInit__faiss_ext"]


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
