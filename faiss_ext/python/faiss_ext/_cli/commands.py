"""What each command does. In: its arguments, checked by argparse. Out: facts, which main.py prints."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
from numpy.typing import NDArray

from .. import (
    METRIC_INNER_PRODUCT,
    METRIC_L2,
    Index,
    __version__,
    build_index,
    export_to_faiss,
    from_faiss,
    index_factory,
    omp_set_num_threads,
    progress_bar,
    read_index,
    write_index,
)
from .. import _vector_files as vectors
from .._descriptions import normalized, with_option
from .._errors import Failure, UsageError
from . import results

Facts = dict[str, Any]
Progress = Optional[Callable[[str, int, int], None]]

METRICS = {"l2": METRIC_L2, "ip": METRIC_INNER_PRODUCT, "cosine": METRIC_INNER_PRODUCT}
DISTANCES = {"euclidean": "l2", "angular": "cosine", "dot": "ip"}  # attribute of ann-benchmarks' files
ROWS_AT_A_TIME = 1 << 16
MOST_TRAINING_ROWS = 1 << 20
MAGIC = b"I"  # the four letters that files of faiss.write_index begin with


def start(arguments: argparse.Namespace) -> None:
    """What all commands have in common."""
    if getattr(arguments, "threads", None) is not None:
        omp_set_num_threads(arguments.threads)


def bar() -> Progress:
    """A progress bar, if anybody sees it."""
    return progress_bar() if sys.stderr.isatty() else None


def check_output(path: Path, inputs: list[Path]) -> None:
    """Refuse what cannot be written, before the work."""
    if path.is_dir() or (path.exists() and not path.is_file()):
        raise UsageError(f"{path}: not a regular file")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: no such folder")
    if any(path.exists() and other.exists() and path.samefile(other) for other in inputs):
        raise UsageError(f"{path}: is read, and would be overwritten")


def open_index(path: Path, *, mmap: bool = True) -> Index:
    """An index file of ours; one of Faiss is known by its name."""
    if not path.exists():
        raise Failure(f"{path}: no such file")
    try:
        return read_index(path, mmap=mmap)
    except RuntimeError as error:
        if is_faiss_file(path):
            raise Failure(f"{path}: an index file of Faiss; first `faiss_ext convert {path} <new file>`") from error
        raise Failure(f"{path}: {error}") from error


def is_faiss_file(path: Path) -> bool:
    """Whether a file begins as those of faiss.write_index."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(4)
    return len(head) == 4 and head[:1] == MAGIC and head[1:].isalnum()


def float_blocks(rows: NDArray[Any], begin: int = 0) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Some rows at a time as float32, with the number of the first."""
    for first in range(begin, len(rows), ROWS_AT_A_TIME):
        yield first, np.ascontiguousarray(rows[first : first + ROWS_AT_A_TIME], dtype=np.float32)


def part_of_all(progress: Progress, begin: int, total: int) -> Progress:
    """The progress of one call of many."""
    if progress is None:
        return None

    def step(stage: str, done: int, _: int) -> None:
        assert progress is not None
        progress(stage, begin + done, total)

    return step


def default_metric(path: Path) -> str:
    """What the file says, as those of ann-benchmarks do; else L2."""
    if path.suffix.lower() not in vectors.HDF5_SUFFIXES or not path.is_file():
        return "l2"
    try:
        with vectors.import_h5py().File(path, "r") as file:
            return DISTANCES.get(str(file.attrs.get("distance", "")), "l2")
    except OSError as error:
        raise Failure(f"{path}: no HDF5 file that can be read: {error}") from error


def build_within(arguments: argparse.Namespace, metric: str, description: str) -> Facts:
    """Rows -> index file, in the memory given."""
    rows = vectors.lazy(arguments.rows, arguments.column)
    if arguments.seed is not None:
        description = with_option(description, "seed", arguments.seed)
    began = time.perf_counter()
    build_index(description, rows, arguments.output, memory=arguments.memory, metric=METRICS[metric], progress=bar())
    seconds = time.perf_counter() - began
    index = open_index(arguments.output)
    for note in index.notes:
        sys.stderr.write(f"note: {note}\n")
    return {
        "output": arguments.output,
        "rows": index.ntotal,
        "dimensions": index.d,
        "description": description,
        "metric": metric,
        "nlist": index.nlist,
        "nprobe": index.nprobe,
        "build_seconds": round(seconds, 3),
        "file_bytes": arguments.output.stat().st_size,
    }


def build(arguments: argparse.Namespace) -> Facts:
    """Rows -> index file."""
    check_output(arguments.output, [arguments.rows])
    metric = arguments.metric or default_metric(arguments.rows)
    description = normalized(arguments.description) if metric == "cosine" else arguments.description
    if "scann" not in description.lower():
        raise UsageError(f"--description {description!r} has no ScaNN in it (such as IVF1024,ScaNN,RFlat)")
    if arguments.memory is not None:
        return build_within(arguments, metric, description)
    found = vectors.read(arguments.rows, arguments.column)
    rows, d = found.rows, found.rows.shape[1]
    try:
        index = index_factory(d, description, METRICS[metric])
        if arguments.seed is not None:
            index.seed = arguments.seed
    except (ValueError, AttributeError) as error:
        raise UsageError(str(error)) from error
    progress, began = bar(), time.perf_counter()
    step = -(-len(rows) // MOST_TRAINING_ROWS)
    index.train(np.ascontiguousarray(rows[::step], dtype=np.float32), progress=progress)
    trained = time.perf_counter()
    for first, block in float_blocks(rows):
        whole = part_of_all(progress, first, len(rows))
        if found.ids is None:
            index.add(block, progress=whole)
        else:
            index.add_with_ids(block, found.ids[first : first + len(block)], progress=whole)
    added = time.perf_counter()
    write_index(index, arguments.output)
    for note in index.notes:
        sys.stderr.write(f"note: {note}\n")
    return {
        "output": arguments.output,
        "rows": len(rows),
        "dimensions": d,
        "description": description,
        "metric": metric,
        "nlist": index.nlist,
        "nprobe": index.nprobe,
        "train_seconds": round(trained - began, 3),
        "add_seconds": round(added - trained, 3),
        "file_bytes": arguments.output.stat().st_size,
    }


def search(arguments: argparse.Namespace) -> Facts:
    """Queries -> neighbours, recall, queries a second."""
    if arguments.output is not None:
        results.check_result_format(arguments.output)
        check_output(arguments.output, [arguments.index, arguments.queries])
    index = open_index(arguments.index)
    queries = vectors.read(arguments.queries, arguments.column, use="queries").rows
    if queries.shape[1] != index.d:
        raise Failure(f"{arguments.queries}: {queries.shape[1]} dimensions (the index has {index.d})")
    truth = None
    if arguments.ground_truth is not None:
        truth = vectors.read(arguments.ground_truth, use="neighbors").rows
    k, seconds = arguments.k, 0.0
    distances, labels = [], []
    for _, block in float_blocks(queries):
        began = time.perf_counter()
        try:
            near, ids = index.search(
                block,
                k,
                nprobe=arguments.nprobe,
                reorder_k=arguments.reorder_k,
                refine_k=arguments.refine_k,
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
        seconds += time.perf_counter() - began
        distances.append(near)
        labels.append(ids)
    all_distances, all_labels = np.concatenate(distances), np.concatenate(labels)
    facts: Facts = {"queries": len(queries), "k": k}
    if truth is not None:
        facts[f"recall@{k}"] = round(results.recall(all_labels, truth, k), 4)
    facts["queries_per_second"] = round(len(queries) / seconds, 1)
    if arguments.output is not None:
        results.write_results(arguments.output, all_distances, all_labels)
        facts["output"] = arguments.output
    elif truth is None and arguments.json:
        facts["results"] = results.as_lists(all_distances, all_labels)
    elif truth is None:
        for row in results.as_lists(all_distances, all_labels):
            sys.stdout.write(" ".join(f"{id}:{near}" for id, near in zip(row["ids"], row["distances"])) + "\n")
        return {}
    return facts


def info(arguments: argparse.Namespace) -> Facts:
    """What an index file is."""
    index = open_index(arguments.index)
    facts: Facts = {
        "file": arguments.index,
        "file_bytes": arguments.index.stat().st_size,
        "dimensions": index.d,
        "rows": index.ntotal,
        "metric": "l2" if index.metric_type == METRIC_L2 else "cosine" if index.normalize else "ip",
        "is_trained": index.is_trained,
    }
    names = "nlist nprobe reorder_k refine_k sub_dim coded_dims refine_type with_raw_data soar_lambda rotation seed"
    facts.update({name: getattr(index, name) for name in names.split()})
    facts["direct_map"] = index.direct_map_type.name
    facts["calibration"] = index.calibration
    facts["notes"] = index.notes
    facts["version"] = __version__
    return facts


def calibrate(arguments: argparse.Namespace) -> Facts:
    """Parameters for a wanted recall, saved with the index."""
    target = arguments.output or arguments.index
    check_output(target, [] if arguments.queries is None else [arguments.queries])
    index = open_index(arguments.index, mmap=target != arguments.index)
    queries = None
    if arguments.queries is not None:
        queries = np.asarray(vectors.read(arguments.queries, arguments.column, use="queries").rows, np.float32)
    chosen = index.calibrate(queries, arguments.target_recall, arguments.k, progress=bar())
    write_index(index, target)
    if chosen["recall"] < arguments.target_recall:
        sys.stderr.write(f"note: {arguments.target_recall} is out of reach, the widest setting is taken\n")
    return {**chosen, "output": target}


def export(arguments: argparse.Namespace) -> Facts:
    """An index file -> one of Faiss."""
    check_output(arguments.output, [arguments.index])
    export_to_faiss(open_index(arguments.index), arguments.output)
    return {"output": arguments.output, "file_bytes": arguments.output.stat().st_size}


def convert(arguments: argparse.Namespace) -> Facts:
    """Vectors -> another format; an index file of Faiss -> one of ours."""
    check_output(arguments.output, [arguments.input])
    if arguments.input.suffix.lower() not in vectors.FORMATS and is_faiss_file(arguments.input):
        index = from_faiss(arguments.input, arguments.description, progress=bar())
        write_index(index, arguments.output)
        return {"output": arguments.output, "rows": index.ntotal, "dimensions": index.d, "nlist": index.nlist}
    if arguments.description is not None:
        raise UsageError("--description is for index files of Faiss; the input holds vectors")
    vectors.known_suffix(arguments.output)
    rows = vectors.read(arguments.input, arguments.column).rows
    vectors.write(arguments.output, rows)
    return {"output": arguments.output, "rows": len(rows), "dimensions": rows.shape[1]}
