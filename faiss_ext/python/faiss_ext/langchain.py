"""A LangChain vector store on this library (`pip install faiss_ext[langchain]`).

::

    from faiss_ext.langchain import ScannVectorStore

    store = ScannVectorStore.from_texts(["tea", "coffee"], embeddings)
    store.similarity_search("a hot drink", k=1)

Documents lie in a dictionary, their vectors in one index, by cosine. A filter is a dictionary of metadata
that must be equal, or a function of the document; it is answered inside the search.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Union

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from .row_store import RowStore

Filter = Union[None, dict[str, Any], Callable[[Document], bool]]


class ScannVectorStore(VectorStore):
    """Documents and a growing index of their embeddings.

    `factory` is the factory string of the index, without a map.
    """

    def __init__(self, embedding: Embeddings, factory: str = "ScaNN"):
        self.embedding = embedding
        self.rows = RowStore(factory)
        self.documents: dict[str, Document] = {}

    @property
    def embeddings(self) -> Embeddings:
        return self.embedding

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **_: Any,
    ) -> list[str]:
        """Adds texts, or replaces those whose id is there; returns the ids."""
        listed = list(texts)
        metas = metadatas or [{} for _ in listed]
        given = ids or [None] * len(listed)
        if not len(listed) == len(metas) == len(given):
            raise ValueError(f"{len(listed)} texts, {len(metas)} metadatas, {len(given)} ids")
        names = [name or str(uuid.uuid4()) for name in given]
        self.rows.put(names, self.embedding.embed_documents(listed))
        for name, text, meta in zip(names, listed, metas):
            self.documents[name] = Document(id=name, page_content=text, metadata=dict(meta))
        return names

    def add_documents(self, documents: list[Document], **kwargs: Any) -> list[str]:
        """Adds documents under their ids."""
        kwargs.setdefault("ids", [document.id for document in documents])
        return self.add_texts([d.page_content for d in documents], [d.metadata for d in documents], **kwargs)

    def delete(self, ids: list[str] | None = None, **_: Any) -> bool:
        """Deletes documents by id (None: all); ids that are not there are passed over."""
        gone = list(self.documents if ids is None else ids)
        self.rows.remove(gone)
        for name in gone:
            self.documents.pop(name, None)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        return [self.documents[name] for name in ids if name in self.documents]

    def _passing(self, filter: Filter) -> list[str] | None:
        if filter is None:
            return None
        if callable(filter):
            return [name for name, document in self.documents.items() if filter(document)]
        wanted = filter.items()
        passes = [name for name, d in self.documents.items() if all(d.metadata.get(k) == v for k, v in wanted)]
        return passes

    def similarity_search_with_score_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter = None, **search: Any
    ) -> list[tuple[Document, float]]:
        """The k nearest and their cosines; `search`: nprobe, reorder_k."""
        found = self.rows.nearest(embedding, k, self._passing(filter), **search)
        return [(self.documents[name], similarity) for name, similarity in found]

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        return self.similarity_search_with_score_by_vector(self.embedding.embed_query(query), k, **kwargs)

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        return [document for document, _ in self.similarity_search_with_score_by_vector(embedding, k, **kwargs)]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda cosine: (1 + cosine) / 2

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """k of the fetch_k nearest that are also unlike one another."""
        from langchain_core.vectorstores.utils import maximal_marginal_relevance

        vector = self.embedding.embed_query(query)
        near = self.similarity_search_by_vector(vector, fetch_k, **kwargs)
        rows = self.rows.vectors([str(document.id) for document in near])
        chosen = maximal_marginal_relevance(np.asarray(vector, np.float32), list(rows), lambda_mult, k)
        return [near[i] for i in chosen]

    @classmethod
    def from_texts(
        cls, texts: list[str], embedding: Embeddings, metadatas: list[dict[str, Any]] | None = None, **kwargs: Any
    ) -> ScannVectorStore:
        store = cls(embedding, kwargs.pop("factory", "ScaNN"))
        store.add_texts(texts, metadatas, **kwargs)
        return store

    def save_local(self, folder: str | Path) -> None:
        """Writes index and documents; metadata must be JSON."""
        texts = {n: [d.page_content, d.metadata] for n, d in self.documents.items()}
        self.rows.save(folder, json.dumps(texts))

    @classmethod
    def load_local(cls, folder: str | Path, embedding: Embeddings) -> ScannVectorStore:
        """Opens what `save_local` has written."""
        store = cls(embedding)
        store.rows, texts = RowStore.load(folder)
        for name, (text, meta) in json.loads(texts).items():
            store.documents[name] = Document(id=name, page_content=text, metadata=meta)
        return store
