"""Vector stores for LangChain and LlamaIndex, with the real packages; against brute force."""

import json
import pathlib

import numpy as np
import pytest

from faiss_ext.row_store import RETRAIN, RowStore, by_cosine

TEXTS = [f"text {i}" for i in range(300)]


def vector(text):
    """An embedding that a text always has."""
    return np.random.default_rng(list(text.encode())).standard_normal(12).astype(np.float32)


ROWS = np.array([vector(text) for text in TEXTS])


def nearest(query, among, k):
    """Positions of the k most similar rows among these, by brute force."""
    unit = ROWS / np.linalg.norm(ROWS, axis=1)[:, None]
    similar = unit @ (query / np.linalg.norm(query))
    return sorted(among, key=lambda i: -similar[i])[:k], similar


# ------------------------------------------------------------------- RowStore


def names(found):
    return [name for name, _ in found]


def test_rows_come_and_go():
    """A random history beside a dictionary, through several trainings."""
    random = np.random.default_rng(0)
    store, there = RowStore(), {}
    for _ in range(60):
        step = random.integers(3) if there else 0
        some = random.choice(300, size=random.integers(1, 40), replace=False)
        if step < 2:
            rows = random.standard_normal((len(some), 12)).astype(np.float32)
            store.put([f"n{i}" for i in some], rows)
            there.update(zip((f"n{i}" for i in some), rows))
        else:
            store.remove([f"n{i}" for i in some])
            for i in some:
                there.pop(f"n{i}", None)
        assert len(store) == len(there) == store.index.ntotal
        query = random.standard_normal(12).astype(np.float32)
        unit = {n: r @ query / np.linalg.norm(r) / np.linalg.norm(query) for n, r in there.items()}
        truth = sorted(unit, key=lambda n: -unit[n])[:5]
        found = store.nearest(query, 5, nprobe=store.index.nlist, reorder_k=100)
        assert names(found) == truth
        np.testing.assert_allclose([s for _, s in found], [unit[n] for n in truth], atol=1e-5)
    assert store.trained_rows > RETRAIN


@pytest.mark.parametrize(
    "factory, full",
    [
        ("ScaNN", "ScaNN(normalize=1,allow_zero=1)"),
        ("IVF16,SCANN(sub_dim=4),RFlat", "IVF16,SCANN(sub_dim=4,normalize=1,allow_zero=1),RFlat"),
        ("IVF16,ScaNN6x4,SQ8", "IVF16,ScaNN6x4(normalize=1,allow_zero=1),SQ8"),
    ],
)
def test_any_factory_string_searches_by_cosine(factory, full):
    assert by_cosine(factory) == full
    store = RowStore(factory)
    store.put(TEXTS, ROWS * np.arange(1, 301, dtype=np.float32)[:, None])
    for i in (0, 123):
        [(name, similarity)] = store.nearest(ROWS[i], 1, nprobe=store.index.nlist)
        assert name == TEXTS[i] and similarity == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="factory 'Flat'"):
        RowStore("Flat")


def test_of_one_name_the_last_row_counts():
    store = RowStore()
    store.put(["a", "b", "a"], ROWS[:3])
    assert len(store) == 2 and store.index.ntotal == 2
    assert names(store.nearest(ROWS[2], 1)) == ["a"]
    np.testing.assert_array_equal(store.vectors(["a"])[0], ROWS[2])


def test_an_empty_store_and_wrong_arguments():
    store = RowStore()
    assert store.nearest(ROWS[0], 3) == [] and store.put([], []) is None
    with pytest.raises(ValueError, match=r"2 names, rows of shape \(3, 12\)"):
        store.put(["a", "b"], ROWS[:3])
    store.put(["a"], ROWS[:1])
    with pytest.raises(ValueError, match=r"rows of 5 dimensions \(allowed: 12\)"):
        store.put(["b"], ROWS[:1, :5])
    with pytest.raises(ValueError, match=r"k = 0 \(allowed: >= 1\)"):
        store.nearest(ROWS[0], 0)
    assert store.nearest(ROWS[0], 3, []) == [] and store.nearest(ROWS[0], 3, ["not there"]) == []
    bad = ROWS[:1].copy()
    bad[0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        store.put(["a"], bad)
    assert names(store.nearest(ROWS[0], 3)) == ["a"]  # as it was


def test_a_store_that_was_written_half(tmp_path):
    store = RowStore()
    store.put(TEXTS, ROWS)
    store.save(tmp_path, "more")
    again, more = RowStore.load(tmp_path)
    assert more == "more" and names(again.nearest(ROWS[7], 1)) == ["text 7"]
    facts = json.loads((tmp_path / "names.json").read_text())
    del facts["numbers"]["text 7"]
    (tmp_path / "names.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="300 rows, 299 names"):
        RowStore.load(tmp_path)

def test_a_save_that_ends_early_leaves_what_was_saved_before(tmp_path, monkeypatch):
    x = np.random.default_rng(5).standard_normal((60, 8)).astype(np.float32)
    store = RowStore()
    store.put([str(i) for i in range(50)], x[:50])
    store.save(tmp_path, "first")
    store.put(["0", "50"], x[50:52])

    def full(*_, **__):
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(pathlib.Path, "write_text", full)
        with pytest.raises(OSError):
            store.save(tmp_path, "second")
    again, more = RowStore.load(tmp_path)
    assert more == "first" and len(again) == 50 and again.nearest(x[0], 1)[0][0] == "0"
    store.save(tmp_path, "third")
    again, more = RowStore.load(tmp_path)
    assert more == "third" and len(again) == 51 and again.nearest(x[50], 1)[0][0] == "0"
    assert len(list(tmp_path.glob("*.scann"))) == 1  # nothing of the others is left



# ------------------------------------------------------------------ LangChain


@pytest.fixture
def store_of_langchain():
    pytest.importorskip("langchain_core", reason="PyPI langchain-core is not installed")
    from langchain_core.embeddings import Embeddings

    from faiss_ext.langchain import ScannVectorStore

    class Known(Embeddings):
        def embed_documents(self, texts):
            return [self.embed_query(text) for text in texts]

        def embed_query(self, text):
            return vector(text).tolist()

    metadatas = [{"i": i, "even": i % 2 == 0} for i in range(300)]
    return ScannVectorStore.from_texts(TEXTS, Known(), metadatas, ids=[str(i) for i in range(300)])


def test_langchain_finds_what_brute_force_finds(store_of_langchain):
    exact = {"nprobe": store_of_langchain.rows.index.nlist, "reorder_k": 300}
    for i in (0, 7, 299):
        for filter, among in (
            (None, range(300)),
            ({"even": True}, range(0, 300, 2)),
            (lambda document: document.metadata["i"] < 20, range(20)),
        ):
            truth, similar = nearest(ROWS[i], among, 6)
            found = store_of_langchain.similarity_search_with_score(TEXTS[i], 6, filter=filter, **exact)
            assert [document.metadata["i"] for document, _ in found] == truth
            np.testing.assert_allclose([s for _, s in found], similar[truth], atol=1e-5)
            assert [d.page_content for d, _ in found] == [TEXTS[j] for j in truth]
    [(document, relevance)] = store_of_langchain.similarity_search_with_relevance_scores("text 5", 1)
    assert document.id == "5" and relevance == pytest.approx(1)
    assert store_of_langchain.as_retriever(search_kwargs={"k": 1}).invoke("text 9")[0].id == "9"
    unlike = store_of_langchain.max_marginal_relevance_search("text 5", 3, fetch_k=50, lambda_mult=0.1)
    assert unlike[0].id == "5" and len({document.id for document in unlike}) == 3


def test_langchain_deletes_replaces_and_saves(store_of_langchain, tmp_path):
    from faiss_ext.langchain import ScannVectorStore

    store = store_of_langchain
    assert store.delete(["5", "nothing"]) and store.similarity_search("text 5", 1)[0].id != "5"
    assert store.get_by_ids(["5", "6"])[0].id == "6"
    store.add_texts(["text 5"], [{"new": 1}], ids=["6"])
    assert store.similarity_search("text 5", 1)[0].metadata == {"new": 1} and len(store.documents) == 299
    store.save_local(tmp_path)
    again = ScannVectorStore.load_local(tmp_path, store.embedding)
    assert again.similarity_search("text 5", 1)[0].id == "6" and again.documents == store.documents
    with pytest.raises(ValueError, match="1 texts, 2 metadatas"):
        store.add_texts(["x"], [{}, {}])
    assert again.delete() and again.similarity_search("text 1") == []


# ----------------------------------------------------------------- LlamaIndex


@pytest.fixture
def store_of_llama_index():
    pytest.importorskip("llama_index.core", reason="PyPI llama-index-core is not installed")
    from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

    from faiss_ext.llama_index import ScannVectorStore

    store = ScannVectorStore()
    for start in (0, 100):  # 100 nodes, then 200 more
        store.add(
            [
                TextNode(
                    id_=str(i),
                    text=TEXTS[i],
                    embedding=ROWS[i].tolist(),
                    metadata={"i": i},
                    relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=f"d{i % 3}")},
                )
                for i in range(start, 100 if start == 0 else 300)
            ]
        )
    return store


def asked(i, k=6, **conditions):
    from llama_index.core.vector_stores.types import VectorStoreQuery

    return VectorStoreQuery(query_embedding=ROWS[i].tolist(), similarity_top_k=k, **conditions)


def below(limit):
    from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

    return MetadataFilters(filters=[MetadataFilter(key="i", value=limit, operator=FilterOperator.LT)])


def test_llama_index_finds_what_brute_force_finds(store_of_llama_index):
    store = store_of_llama_index
    for conditions, among in (
        ({}, range(300)),
        ({"filters": below(20)}, range(20)),
        ({"doc_ids": ["d1"]}, range(1, 300, 3)),
        ({"node_ids": ["3", "4", "5", "999"], "filters": below(5)}, [3, 4]),
    ):
        truth, similar = nearest(ROWS[7], among, 6)
        found = store.query(asked(7, **conditions), nprobe=store.client.nlist, reorder_k=300)
        assert found.ids == [str(i) for i in truth]
        assert [node.get_content() for node in found.nodes] == [TEXTS[i] for i in truth]
        np.testing.assert_allclose(found.similarities, similar[truth], atol=1e-5)


def test_llama_index_deletes_and_persists(store_of_llama_index, tmp_path):
    from llama_index.core.vector_stores.types import VectorStoreQueryMode

    from faiss_ext.llama_index import ScannVectorStore

    store = store_of_llama_index
    store.delete("d1")
    assert len(store.get_nodes()) == 200 and store.query(asked(7, 1)).ids != ["7"]
    store.delete_nodes(["3", "6"], below(5))
    assert {node.node_id for node in store.get_nodes(filters=below(9))} == {"0", "2", "5", "6", "8"}
    store.persist(str(tmp_path / "store"))
    again = ScannVectorStore.from_persist_path(str(tmp_path / "store"))
    assert again.query(asked(8)).ids == store.query(asked(8)).ids
    assert again.get_nodes(["8"])[0].metadata == {"i": 8} and again.get_nodes(["8"])[0].ref_doc_id == "d2"
    with pytest.raises(ValueError, match="query mode"):
        store.query(asked(8, mode=VectorStoreQueryMode.HYBRID))
    with pytest.raises(TypeError, match="unknown parameter 'ef'"):
        store.query(asked(8), ef=3)
    again.clear()
    assert again.query(asked(8)).ids == []


def test_llama_index_as_its_own_index(store_of_llama_index):
    from llama_index.core import StorageContext, VectorStoreIndex
    from llama_index.core.embeddings import MockEmbedding

    context = StorageContext.from_defaults(vector_store=store_of_llama_index)
    index = VectorStoreIndex([], storage_context=context, embed_model=MockEmbedding(embed_dim=12))
    found = index.as_retriever(similarity_top_k=3).retrieve("anything")
    assert len(found) == 3 and found[0].score >= found[1].score >= found[2].score
