"""For the tests of objects, arrays, paths and callbacks as no sane program makes them.

Each of their children runs as a function of its file in a process of its own, which
says what it is about to call: a crash is a failure with these words."""

import pathlib
import signal
import subprocess
import sys

import numpy as np
from reference import normal

import faiss_ext as fx
from faiss_ext import knowhere

D, ROWS = 8, 300
ERRORS = (TypeError, ValueError, RuntimeError, OverflowError, MemoryError, AttributeError, BufferError)
ITERATORS = (fx.SearchIterator, knowhere.RowIterator)
NODE_CLASSES = (knowhere.IndexFactory, knowhere.IndexNode)
SELECTORS = tuple(getattr(fx, name) for name in dir(fx) if name.startswith("IDSelector"))
CLASSES = (fx.Index, fx.Filter, *SELECTORS, fx.ClusteringParameters, fx.SearchStats, fx.DirectMap)
CLASSES += (*NODE_CLASSES, *ITERATORS)


class Raises:
    def __array__(self, *arguments, **named):
        raise ZeroDivisionError("asked for an array")


def run_here(file, name, *arguments, timeout=120):
    """Calls a function of a test file in a new process."""
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", file, name, *arguments],
        cwd=pathlib.Path(file).parent,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
    )
    said = "\n".join(run.stdout.splitlines()[-3:])
    assert run.returncode == 0, f"exit code {run.returncode} of {name}, last calls:\n{said}\n{run.stderr[-3000:]}"


def be_child(functions):
    """What a test file does as such a process; functions are its globals()."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    functions[sys.argv[1]]()


def rows(n=ROWS, seed=0):
    return normal(n, D, seed)


def made(description="IVF4,ScaNN,RFlat"):
    index = fx.index_factory(D, description)
    index.train(rows())
    index.add_with_ids(rows(), np.arange(ROWS)) if "IDMap" in description else index.add(rows())
    return index


def answers(index):
    distances, labels = index.search(rows()[:5], 4)
    return index.ntotal, index.is_trained, distances.tolist(), labels.tolist()


def refused(call, *arguments, allowed=ERRORS, **named):
    print(getattr(call, "__name__", call), [type(a) for a in arguments], named, flush=True)
    try:
        call(*arguments, **named)
    except allowed as error:
        assert str(error), "an error without words"
        str(error).encode()
        return
    raise AssertionError("nothing was raised")
