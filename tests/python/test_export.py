"""faiss-cpu reads what export_to_faiss writes, and finds the same."""

import numpy as np
import pytest
from reference import brute_force, clustered, recall

import faiss_ext as fx

faiss = pytest.importorskip("faiss", reason="PyPI faiss-cpu is not installed")

D, ROWS, QUERIES, K = 40, 6000, 200, 10


def make_rows(n, seed):
    return clustered(n, D, seed, apart=2, width=1, clouds_seed=1)


CASES = [
    ("IVF32,ScaNN,RFlat", "L2"),
    ("IVF32,ScaNN,RFlat", "IP"),
    ("IVF32,ScaNN(rotation=none,sub_dim=1),RFlat", "L2"),
    ("IVF32,ScaNN(normalize=1),SQ8,RFlat", "IP"),
    ("IVF32,ScaNN(soar_lambda=1),RFlat", "IP"),
    ("IVF32,ScaNN(sub_dim=3),RFlat", "L2"),
    ("IVF32_HNSW8,ScaNN,RFlat", "L2"),
    ("PCA40,IVF32,ScaNN,RFlat", "L2"),
]


@pytest.mark.parametrize("description, metric", CASES)
def test_recall_is_ours(tmp_path, description, metric):
    inner_product = metric == "IP"
    ours_metric = fx.METRIC_INNER_PRODUCT if inner_product else fx.METRIC_L2
    x, q = make_rows(ROWS, 2), make_rows(QUERIES, 3)
    index = fx.index_factory(D, description, ours_metric)
    index.train(x)
    index.add(x)
    index.nprobe = 8
    path = str(tmp_path / "plain.faiss")
    fx.export_to_faiss(index, path)

    rows = x / np.linalg.norm(x, axis=1, keepdims=True) if "normalize" in description else x
    _, exact = brute_force(rows, q, K, metric)

    plain = faiss.read_index(path)
    plain_ivf(plain).nprobe = 8
    ours = recall(index.search(q, K)[1], exact)
    theirs = recall(plain.search(q, K)[1], exact)
    assert plain.ntotal == ROWS
    assert ours > 0.8
    assert abs(ours - theirs) <= 0.02


def plain_ivf(index):
    """The index of codes inside IndexRefineFlat and transforms."""
    while True:
        index = faiss.downcast_index(index)
        if hasattr(index, "base_index"):
            index = index.base_index
        elif isinstance(index, faiss.IndexPreTransform):
            index = index.index
        else:
            return index


def decode(index):
    """Rows of an export without raw rows, by id, in the space of its codes.

    Not by reconstruct_n or sa_decode: both crash after read_index in faiss
    1.15.1, whoever wrote the file.
    """
    codes = plain_ivf(index)
    packer = codes.get_CodePacker()
    lists = codes.invlists
    words = faiss.vector_to_array(codes.pq.centroids)
    words = words.reshape(codes.pq.M, 16, codes.pq.dsub)
    blocks_of = np.arange(codes.pq.M)
    out = np.empty((index.ntotal, codes.d), np.float32)
    for number in range(codes.nlist):
        size = lists.list_size(number)
        if size == 0:
            continue
        ids = faiss.rev_swig_ptr(lists.get_ids(number), size)
        n_blocks = -(-size // packer.nvec)
        packed = faiss.rev_swig_ptr(
            lists.get_codes(number), n_blocks * packer.block_size
        ).reshape(n_blocks, -1)
        centroid = codes.quantizer.reconstruct(number)
        for i in range(size):
            code = packer.unpack_1(packed, i)
            nibbles = code[blocks_of // 2] >> (blocks_of % 2 * 4) & 15
            out[ids[i]] = centroid + words[blocks_of, nibbles].ravel()
    return out


@pytest.mark.parametrize("options", ["", "(sub_dim=1)", "(sub_dim=1,rotation=none)"])
def test_codes_decode_alike(tmp_path, options):
    x = make_rows(2000, 4)
    index = fx.index_factory(D, f"IVF16,ScaNN{options}", fx.METRIC_L2)
    index.train(x)
    index.add(x)
    path = str(tmp_path / "plain.faiss")
    fx.export_to_faiss(index, path)
    plain = faiss.read_index(path)
    theirs, ours = decode(plain), index.reconstruct_n(0, len(x))
    if isinstance(plain, faiss.IndexPreTransform):
        ours = plain.chain.at(0).apply(np.ascontiguousarray(ours))
    np.testing.assert_allclose(theirs, ours, atol=1e-3)
