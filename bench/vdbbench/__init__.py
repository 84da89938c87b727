"""VectorDBBench (PyPI `vectordb-bench`, unmodified) on data of one's own.

dataset.py   a set of vectors -> the folder of Parquet files that VectorDBBench reads
register.py  makes our client a member of VectorDBBench's closed list of databases
client.py    that client; indexes.py: the indexes it drives in process
task.py      runs one task inside VectorDBBench's own environment
runs.py      starts task.py, ends it when it hangs, reads and judges its result file
rows.py      which indexes are compared, with which parameters

The comparison itself, with its tables and plots, is the command vectordbbench.
`python -m bench.vdbbench` is VectorDBBench's own command line with our client added.
"""
