"""A LlamaIndex vector store on this library (`pip install faiss_ext[llama-index]`).

::

    from faiss_ext.llama_index import ScannVectorStore

    store = ScannVectorStore()
    index = VectorStoreIndex.from_documents(documents, storage_context=StorageContext.from_defaults(vector_store=store))

Nodes lie in a dictionary, their vectors in one index, by cosine; metadata filters are answered inside the search.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn, metadata_dict_to_node, node_to_metadata_dict

from .row_store import RowStore

QUERY_KEYS = ("nprobe", "reorder_k")


class ScannVectorStore(BasePydanticVectorStore):
    """Nodes and a growing index of their embeddings; `factory`: factory string without a map."""

    stores_text: bool = True
    is_embedding_query: bool = True
    factory: str = "ScaNN"

    _rows: RowStore = PrivateAttr()
    _nodes: dict[str, BaseNode] = PrivateAttr()

    def __init__(self, factory: str = "ScaNN"):
        super().__init__(factory=factory)
        self._rows = RowStore(factory)
        self._nodes = {}

    @classmethod
    def class_name(cls) -> str:
        return "ScannVectorStore"

    @property
    def client(self) -> Any:
        """The index."""
        return self._rows.index

    def add(self, nodes: Sequence[BaseNode], **_: Any) -> list[str]:
        """Adds nodes with their embeddings, or replaces those whose id is there."""
        names = [node.node_id for node in nodes]
        self._rows.put(names, [node.get_embedding() for node in nodes])
        for node in nodes:
            self._nodes[node.node_id] = node.model_copy(update={"embedding": None})
        return names

    def _remove(self, names: list[str]) -> None:
        self._rows.remove(names)
        for name in names:
            self._nodes.pop(name, None)

    def delete(self, ref_doc_id: str, **_: Any) -> None:
        """Deletes the nodes of one document."""
        self._remove([name for name, node in self._nodes.items() if node.ref_doc_id == ref_doc_id])

    def delete_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **_: Any) -> None:
        """Deletes nodes by id, by metadata, or those that both mean."""
        if node_ids is not None or filters is not None:
            self._remove(self._passing(node_ids, None, filters) or [])

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        names = self._passing(node_ids, None, filters)
        return [self._nodes[name] for name in (self._nodes if names is None else names)]

    def clear(self) -> None:
        self._rows, self._nodes = RowStore(self.factory), {}

    def _passing(
        self, node_ids: list[str] | None, doc_ids: list[str] | None, filters: MetadataFilters | None
    ) -> list[str] | None:
        """Ids that all conditions let through; None: there is no condition."""
        if node_ids is None and doc_ids is None and filters is None:
            return None
        names = [name for name in (self._nodes if node_ids is None else node_ids) if name in self._nodes]
        if doc_ids is not None:
            names = [name for name in names if self._nodes[name].ref_doc_id in doc_ids]
        if filters is not None:
            passes = build_metadata_filter_fn(lambda name: self._nodes[name].metadata, filters)
            names = [name for name in names if passes(name)]
        return names

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nearest nodes and their cosines; `vector_store_kwargs`: nprobe, reorder_k."""
        if query.mode != VectorStoreQueryMode.DEFAULT:
            raise ValueError(f"query mode {query.mode} (allowed: {VectorStoreQueryMode.DEFAULT})")
        if query.query_embedding is None:
            raise ValueError("a query without an embedding")
        unknown = sorted(set(kwargs) - set(QUERY_KEYS))
        if unknown:
            raise TypeError(f"unknown parameter {unknown[0]!r} (allowed: {', '.join(QUERY_KEYS)})")
        # an index of LlamaIndex asks with empty lists for all nodes
        among = self._passing(query.node_ids or None, query.doc_ids or None, query.filters)
        found = self._rows.nearest(query.query_embedding, query.similarity_top_k, among, **kwargs)
        names = [name for name, _ in found]
        return VectorStoreQueryResult(
            nodes=[self._nodes[name] for name in names], similarities=[s for _, s in found], ids=names
        )

    def persist(self, persist_path: str, fs: Any = None) -> None:
        """Writes index and nodes into the folder `persist_path`."""
        if fs is not None:
            raise ValueError("other file systems are not served (allowed: fs = None)")
        texts = {name: node_to_metadata_dict(node) for name, node in self._nodes.items()}
        self._rows.save(persist_path, json.dumps(texts))

    @classmethod
    def from_persist_path(cls, persist_path: str) -> ScannVectorStore:
        """Opens what `persist` has written."""
        rows, texts = RowStore.load(persist_path)
        store = cls(rows.factory)
        store._rows = rows
        store._nodes = {name: metadata_dict_to_node(facts) for name, facts in json.loads(texts).items()}
        return store
