"""The command line `python -m faiss_ext`.

main.py: arguments, errors, exit codes; commands.py: what each command does; results.py: what a
search found, recall, JSON. Files of rows: _vector_files.py of the package.
"""
