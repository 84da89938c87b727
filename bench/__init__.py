"""Benchmarks and demonstrations of faiss_ext: `python -m bench COMMAND`, from the repository's root.

cli.py, options.py         the command line: commands, the options that they share
commands/                  one module a command: its options, what it measures, its table
datasets.py                files -> rows (float32, or mapped bytes) and queries
debian_pictures.py         Debian packages -> picture files; sift_rows.py: pictures -> SIFT descriptors, rows of sets
texts.py                   Debian packages -> texts; text_models.py: their embeddings; embedding.py: rows of sets
ground_truth.py            exact neighbours (cached), recall
engines/                   one adapter a library, with the parameters worth trying
worker.py                  a process that holds one built index, so that engines are timed in turn
disk_peers.py              indexes that leave rows on disk, compared; disk_worker.py: a process that has one open
runbooks.py, scenarios.py  which rows come and go, step by step: files, and what is made for a set
stream_worker.py           a process that does these steps with one index; stream_points.py: what was measured
page_cache.py              what the system has of a file in memory
timing.py                  seconds of calls, in turn; minimum and median
points.py                  what was measured: JSON lines, Pareto fronts, interpolation
tables.py, plots.py        Markdown, PNG and SVG
milvus_collection.py       a collection in a Milvus server, indexed and timed; milvus_files.py: bytes of its index
exact_scans.py             rows that a host compares one by one, for tables
vdbbench/                  our client for VectorDBBench, and its runs
"""
