"""The command line `python -m faiss_ext`.

main.py: arguments, errors, exit codes; commands.py: what each command does; vectors.py: files of
rows in, files of rows out; results.py: what a search found, recall, JSON.
"""
