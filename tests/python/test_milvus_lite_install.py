"""install() and uninstall() of SCANN in Milvus Lite: all or nothing, and only for versions that are known."""

import importlib.metadata

import pytest

import faiss_ext.milvus_lite as adapter

# skipped where Milvus Lite is missing or not supported, and so is this file
lite = pytest.importorskip("test_milvus_lite")
pymilvus = lite.pymilvus


def patched_places():
    from milvus_lite import index as package
    from milvus_lite.adapter.grpc import servicer
    from milvus_lite.engine import collection
    from milvus_lite.index import factory

    names = {
        package: ("build_index_from_spec", "load_index_from_spec"),
        factory: ("build_index_from_spec", "load_index_from_spec"),
        collection: ("KNOWN_VECTOR_INDEX_TYPES",),
        collection.Collection: ("create_index", "search"),
        servicer: ("kv_pairs_to_index_params_dict", "parse_search_request"),
    }
    return {(owner, name): getattr(owner, name) for owner, all_names in names.items() for name in all_names}


def test_uninstall_restores_everything(tmp_path, x):
    before = patched_places()
    assert not adapter.installed()
    adapter.install()
    adapter.install()  # once is enough
    assert adapter.installed()
    changed = patched_places()
    assert all(changed[place] is not before[place] for place in before)
    adapter.uninstall()
    adapter.uninstall()
    assert not adapter.installed()
    assert all(now is before[place] for place, now in patched_places().items())

    database = lite.Database(tmp_path / "words.db")
    try:
        lite.create(database.client, x[:200])
        with pytest.raises(pymilvus.MilvusException, match="unknown index_type: 'SCANN'"):
            lite.index(database.client)
    finally:
        database.close()


@pytest.mark.parametrize("version", ["2.5.1", "3.1.1", "3.3.0", "4.0"])
def test_unknown_versions_are_refused(monkeypatch, version):
    before = patched_places()
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version if name == "milvus-lite" else real(name))
    with pytest.raises(RuntimeError, match=rf"milvus-lite {version} is not supported \(supported: 3\.2\.0, .*\)"):
        adapter.install()
    assert not adapter.installed() and patched_places() == before


def test_a_missing_milvus_lite_is_named(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(ModuleNotFoundError, match=r"pip install .pymilvus\[milvus-lite\]"):
        adapter.install()


def test_half_an_installation_is_taken_back(monkeypatch):
    from milvus_lite.adapter.grpc import servicer

    before = patched_places()
    with monkeypatch.context() as changed:
        changed.delattr(servicer, "parse_search_request")
        with pytest.raises(AttributeError, match="parse_search_request"):
            adapter.install()
        assert not adapter.installed()
    assert patched_places() == before
