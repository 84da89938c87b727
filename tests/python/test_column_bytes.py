"""Files opened within a bound of memory: the same answers, what is where, mistakes named."""

import numpy as np
import pytest

import faiss_ext as fx

N, D, K = 3000, 24, 10


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(7).standard_normal((N, D)).astype(np.float32)


@pytest.fixture(scope="module")
def index(x):
    index = fx.index_factory(D, "IVF32,ScaNN,SQ8,RFlat")
    index.train(x)
    index.add(x)
    index.nprobe = 8
    return index


@pytest.fixture(scope="module")
def path(index, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "a.scann"
    fx.write_index(index, path)
    return path


def least(path):
    with pytest.raises(ValueError) as error:
        fx.read_index(path, memory=0)
    return int(str(error.value).split("at least ")[1].split(",")[0])


@pytest.mark.parametrize("share", [0, 0.2, 0.5, 0.9, 1])
def test_answers_do_not_depend_on_the_bound(index, path, x, share):
    columns = sum(c.memory for c in fx.column_bytes(path))
    part = fx.read_index(path, memory=least(path) + int(share * columns))
    for queries in (x[:1], x[:200]):
        for got, want in zip(part.search(queries, K), index.search(queries, K)):
            assert (got == want).all()
    held = fx.column_bytes(part)
    assert [c.column for c in held] == ["codes", "ids", "refine", "raw"]
    assert sum(c.memory + c.cache for c in held) <= share * columns
    assert (held[3].on_demand > 0) == (share < 1) and not held[3].mapped
    stats = fx.SearchStats()
    part.search(x[:50], K, stats=stats)
    assert 0 < stats.reranked and (0 < stats.file_reads + stats.cached_rows <= stats.reranked) == (share < 1)
    assert (stats.cached_rows > 0) == (held[3].cache > 0)
    assert stats.disk_reads <= stats.file_reads


def test_sizes_as_text(path):
    assert fx.column_bytes(path, memory="1GB") == fx.column_bytes(path, memory=10**9)
    assert fx.column_bytes(fx.read_index(path, memory=" 1.5 GiB "))[0].memory > 0


def test_a_file_on_disk_would_be_as_it_is(path):
    for share in (0.3, 0.6):
        memory = least(path) + int(share * path.stat().st_size)
        would, held = fx.column_bytes(path, memory=memory), fx.column_bytes(fx.read_index(path, memory=memory))
        assert [[value > 0 for value in column[1:]] for column in would] == [
            [value > 0 for value in column[1:]] for column in held
        ]


def test_mistakes(index, path, tmp_path):
    with pytest.raises(ValueError, match=r"memory = 17 bytes \(allowed: at least \d+"):
        fx.read_index(path, memory=17)
    with pytest.raises(ValueError, match=r"memory = '4 pounds' \(allowed: bytes"):
        fx.read_index(path, memory="4 pounds")
    with pytest.raises(ValueError, match=r"memory is -1 \(allowed: 0\.\."):
        fx.read_index(path, memory=-1)
    with pytest.raises(ValueError, match="one of them"):
        fx.read_index(path, mmap=True, memory="1GB")
    with pytest.raises(ValueError, match="path of a file"):
        fx.column_bytes(index, memory="1GB")
    with pytest.raises(RuntimeError, match="nowhere"):
        fx.read_index(tmp_path / "nowhere", memory="1GB")
    with pytest.raises(RuntimeError, match="not a file of a ScaNN index"):
        (tmp_path / "other").write_bytes(b"x" * 5000)
        fx.column_bytes(tmp_path / "other")


def test_a_file_that_becomes_shorter(index, path, x, tmp_path):
    copy = tmp_path / "b.scann"
    copy.write_bytes(path.read_bytes())
    columns = {c.column: c.memory for c in fx.column_bytes(copy)}
    part = fx.read_index(copy, memory=least(copy) + columns["codes"] + columns["ids"] + columns["refine"])
    with open(copy, "r+b") as file:
        file.truncate(copy.stat().st_size // 2)
    with pytest.raises(RuntimeError, match="the file has become shorter"):
        part.search(x[:200], K)
