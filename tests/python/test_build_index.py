"""Index files of more rows than memory holds: any source of rows, kills, interrupts, errors."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from reference import normal

import faiss_ext as fx
from faiss_ext import _build_index

N, D, PIECE = 5000, 16, 1024
LIMITS = {"memory": "300MB", "piece_rows": PIECE}
X = np.clip(np.round(40 * normal(N, D, 3) + 128), 0, 255).astype(np.float32)  # of any type exactly
DESCRIPTION = "IVF16,ScaNN(soar_lambda=1),SQ8,RU8"


def in_memory(rows, description=DESCRIPTION, metric=fx.METRIC_L2):
    index = fx.index_factory(D, description, metric)
    index.train(rows)
    index.add(rows)
    return fx.serialize_index(index).tobytes()


@pytest.fixture(scope="module")
def wanted():
    return in_memory(X)


def to_bigann(path, rows):
    head = np.array(rows.shape, np.uint32)
    path.write_bytes(head.tobytes() + rows.tobytes())
    return path


def to_texmex(path, rows):
    table = np.empty(len(rows), np.dtype([("d", np.int32), ("row", rows.dtype, (rows.shape[1],))]))
    table["d"], table["row"] = rows.shape[1], rows
    path.write_bytes(table.tobytes())
    return path


def mapped(path, rows, mode="r"):
    np.save(path, rows)
    return np.load(path, mmap_mode=mode)


SOURCES = {
    "float32": lambda tmp: X,
    "uint8": lambda tmp: X.astype(np.uint8),
    "float16": lambda tmp: X.astype(np.float16),
    "float64": lambda tmp: X.astype(np.float64),
    "another byte order": lambda tmp: X.astype(">f4"),
    "columns first": lambda tmp: np.asfortranarray(X),
    "every second row": lambda tmp: np.repeat(X, 2, axis=0)[::2],
    "nested lists": lambda tmp: X.tolist(),
    "mapped": lambda tmp: mapped(tmp / "x.npy", X),
    "mapped bytes": lambda tmp: mapped(tmp / "x.npy", X.astype(np.uint8)),
    "mapped, to be written": lambda tmp: mapped(tmp / "x.npy", X, "r+"),
    "mapped, with changes of its own": lambda tmp: mapped(tmp / "x.npy", X, "c"),
    "mapped, of another type": lambda tmp: mapped(tmp / "x.npy", X.astype(np.int32)),
    "part of a mapped one": lambda tmp: mapped(tmp / "x.npy", np.pad(X, ((700, 9), (3, 2))))[700:-9, 3:-2],
    ".npy": lambda tmp: (mapped(tmp / "x.npy", X), tmp / "x.npy")[1],
    ".fvecs": lambda tmp: to_texmex(tmp / "x.fvecs", X),
    ".bvecs": lambda tmp: str(to_texmex(tmp / "x.bvecs", X.astype(np.uint8))),
    ".u8bin": lambda tmp: to_bigann(tmp / "x.u8bin", X.astype(np.uint8)),
    ".hbin": lambda tmp: to_bigann(tmp / "x.hbin", X.astype(np.float16)),
    "pieces": lambda tmp: (X[i : i + 700] for i in range(0, N, 700)),
    "list of pieces of bytes": lambda tmp: [X[:1].astype(np.uint8), X[1:1].astype(np.uint8), X[1:].astype(np.uint8)],
}


@pytest.mark.parametrize("source", SOURCES)
def test_any_source_gives_the_index_of_rows_in_memory(source, wanted, tmp_path):
    path = tmp_path / "out.scann"
    fx.build_index(DESCRIPTION, SOURCES[source](tmp_path), path, **LIMITS)
    assert path.read_bytes() == wanted
    assert not (tmp_path / "out.scann.build").exists()


def test_hdf5_is_read_by_pieces(wanted, tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file["train"] = X
    fx.build_index(DESCRIPTION, tmp_path / "x.hdf5", tmp_path / "a", **LIMITS)
    with h5py.File(tmp_path / "x.hdf5") as file:
        fx.build_index(DESCRIPTION, file["train"], tmp_path / "b", **LIMITS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == wanted


@pytest.mark.parametrize("metric", [fx.METRIC_L2, fx.METRIC_INNER_PRODUCT])
@pytest.mark.parametrize("description", ["ScaNN", "IVF8,ScaNN", "IVF8,ScaNN(soar_lambda=1),RFP16", "IVF8,ScaNN,RFlat"])
def test_searches_answer_the_same(description, metric, tmp_path):
    if metric == fx.METRIC_INNER_PRODUCT:
        description = description.replace("ScaNN(", "ScaNN(normalize=1,")
    path = tmp_path / "out.scann"
    fx.build_index(description, X, path, metric=metric, **LIMITS)
    built = fx.read_index(path)
    index = fx.deserialize_index(np.frombuffer(in_memory(X, description, metric), np.uint8))
    queries = X[::100] + 1
    for one, other in zip(built.search(queries, 20, nprobe=8), index.search(queries, 20, nprobe=8)):
        np.testing.assert_array_equal(one, other)
    radius = float(np.median(built.search(queries, 20, nprobe=8)[0]))
    for one, other in zip(built.range_search(queries, radius), index.range_search(queries, radius)):
        np.testing.assert_array_equal(one, other)


def test_mapped_rows_are_read_from_their_file(tmp_path):
    whole = mapped(tmp_path / "x.npy", np.pad(X, ((3000, 9), (3, 2))))
    for part in (whole, whole[17:], whole[3000:4000, 3:-2], whole[::3, 5:], np.asarray(whole)[5:, 2:], whole[40:][7:]):
        name, offset, stride = _build_index._place_in_file(part)
        with open(name, "rb") as file:
            for i in (0, len(part) - 1):
                file.seek(offset + i * stride)
                assert file.read(part[i].nbytes) == part[i].tobytes()
    for other in (X, whole[:, ::2], whole[::-1], whole.T, mapped(tmp_path / "y.npy", X, "c")):
        assert _build_index._place_in_file(other) is None


def child(path, rows):
    """Builds until it is killed."""
    code = f"""
import numpy as np, sys
import faiss_ext as fx
print("begins", flush=True)
rows = np.load({str(rows)!r}, mmap_mode="r")
fx.build_index({DESCRIPTION!r}, rows, {str(path)!r}, memory="300MB", piece_rows={PIECE})
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)


def test_goes_on_after_kills(tmp_path):
    rows, path = tmp_path / "x.npy", tmp_path / "out.scann"
    np.save(rows, np.concatenate([X, X[::-1], 255 - X]))
    wanted = in_memory(np.load(rows))
    random = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    kills, runs = 0, 0
    for _ in range(12):
        process = child(path, rows)
        assert process.stdout.readline() == b"begins\n"
        time.sleep(float(random.uniform(0.02, 0.4)))
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:  # it was faster
            break
        kills += 1
        assert path.read_bytes() == wanted if path.exists() else True
        now = len(list(tmp_path.glob("out.scann.build/run-*")))
        assert now >= runs or path.exists()
        runs = now
    process = child(path, rows)
    assert process.wait() == 0
    assert kills > 0
    assert path.read_bytes() == wanted
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.scann", "x.npy"]


@pytest.mark.parametrize("stage", ["k-means", "codebook", "add", "merge", "rows"])
def test_interrupts_lose_nothing(stage, wanted, tmp_path):
    path = tmp_path / "out.scann"
    pieces = [X[:2000], X[2000:]]

    def interrupt(now, done, total):
        if now == stage and (stage == "k-means" or done > 0 or stage == "merge"):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fx.build_index(DESCRIPTION, pieces if stage == "rows" else X, path, progress=interrupt, **LIMITS)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "out.scann.build").is_dir()
    fx.build_index(DESCRIPTION, pieces if stage == "rows" else X, path, **LIMITS)
    assert path.read_bytes() == wanted


def test_errors_of_a_callback_and_of_a_source_come_through(wanted, tmp_path):
    path = tmp_path / "out.scann"

    def pieces():
        yield X[:1000]
        raise ZeroDivisionError("no more")

    with pytest.raises(ZeroDivisionError, match="no more"):
        fx.build_index(DESCRIPTION, pieces(), path, **LIMITS)
    with pytest.raises(RuntimeError, match="holds another build"):
        fx.build_index(DESCRIPTION, X, path, **LIMITS)
    with pytest.raises(ValueError, match="rows came as float32 of 15 dimensions, before as float32 of 16"):
        fx.build_index(DESCRIPTION, [X, X[:, 1:]], path, **LIMITS)
    with pytest.raises(ValueError, match=f"{N} rows came, not 17"):
        fx.build_index(DESCRIPTION, [X], path, total=17, **LIMITS)
    fx.build_index(DESCRIPTION, [X], path, total=N, **LIMITS)
    assert path.read_bytes() == wanted


def test_rows_are_named_by_their_numbers(tmp_path):
    for kind in (np.float32, np.float64):
        rows = X.astype(kind)
        rows[4321, 5] = np.nan
        for source in (rows, mapped(tmp_path / "x.npy", rows), [rows[:99], rows[99:]]):
            with pytest.raises(ValueError, match=r"row 4321 has a NaN.*keeps what is done"):
                fx.build_index(DESCRIPTION, source, tmp_path / "out.scann", **LIMITS)
            for file in (tmp_path / "out.scann.build").iterdir():
                file.unlink()


WRONG = {
    "memory = 1000 bytes .allowed: >= [0-9]+ for 5000 rows": {"memory": "1kB"},
    "memory = 'two' .allowed: bytes": {"memory": "two"},
    "memory = '1.5 QB'": {"memory": "1.5 QB"},
    "memory is -1": {"memory": -1},
    "piece_rows is -1": {"piece_rows": -1},
    "metric is 2": {"metric": 2},
    "total = 4, but rows has 5000": {"total": 4},
    "has shape .16,": {"rows": X[0]},
    "has dtype complex64": {"rows": X.astype(np.complex64)},
    "masked array": {"rows": np.ma.masked_array(X, X > 200)},
    "rows has none": {"rows": iter(())},
    "0 rows": {"rows": X[:0]},
    "unknown format '.xyz'": {"rows": "x.xyz"},
    "without IDMap, PCA": {"description": "IDMap,ScaNN"},
    "unknown|no index|description": {"description": "IVF4,Scan"},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_refused_leaves_nothing(message, tmp_path):
    arguments = {"description": DESCRIPTION, "rows": X, **LIMITS, **WRONG[message]}
    with pytest.raises(ValueError, match=message):
        fx.build_index(path=tmp_path / "out.scann", **arguments)
    assert not list(tmp_path.iterdir())


def test_files_that_fail_are_runtime_errors(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "none" / "x", tmp_path / "file" / "x"):
        with pytest.raises(RuntimeError, match=str(path)):
            fx.build_index(DESCRIPTION, X, path, **LIMITS)
    with pytest.raises(RuntimeError, match="no such file"):
        fx.build_index(DESCRIPTION, tmp_path / "x.npy", tmp_path / "out", **LIMITS)
    with pytest.raises(TypeError, match="rows is a int"):
        fx.build_index(DESCRIPTION, 7, tmp_path / "out", **LIMITS)
    rows = mapped(tmp_path / "x.npy", X)
    os.truncate(tmp_path / "x.npy", 128 + 3000 * D * 4 + 1)
    with pytest.raises(RuntimeError, match="x.npy: ends at byte 192129, in row 3000 of 5000"):
        fx.build_index(DESCRIPTION, rows, tmp_path / "out", **LIMITS)
    os.remove(tmp_path / "x.npy")
    with pytest.raises(RuntimeError, match="x.npy: No such file"):
        fx.build_index(DESCRIPTION, rows, tmp_path / "out", **LIMITS)
