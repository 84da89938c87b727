"""python -m faiss_ext.milvus_host"""

from .command import run

raise SystemExit(run())
