"""A real Milvus server on this machine, with ScaNN as its index type "SCANN".

The server is the one inside the PyPI package `milvus` 2.3.5, unmodified; the
library `libknowhere_scann.so` is preloaded into it. Clients are ordinary ones
(`pymilvus`), here or in any other Python environment.

>>> from faiss_ext import milvus_host
>>> with milvus_host.start("/tmp/milvus") as server:  # doctest: +SKIP
...     print(server.uri, server.serving(), server.statistics()["searches"])

From a shell::

    python -m faiss_ext.milvus_host serve /tmp/milvus      # until Ctrl-C
    LD_PRELOAD=$(python -m faiss_ext.milvus_host plugin-path) ...  # any start script

One server runs per machine at a time, since Milvus' embedded etcd has a fixed
port; a second start waits or is refused. Like every Milvus, the server listens
on all network interfaces and asks for no password.
"""

from __future__ import annotations

from .server import MilvusHostError, Server, plugin_path, start

__all__ = ["MilvusHostError", "Server", "plugin_path", "start"]
