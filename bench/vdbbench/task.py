"""One task inside VectorDBBench's own environment, of version 1.0 or 2.

    python -m bench.vdbbench.task task.json

In:  the task as runs.py writes it. Out: VectorDBBench's own result file in
     RESULTS_LOCAL_DIR. Its exit code says nothing: runs.py judges the file.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from typing import Any

from vectordb_bench.backend import cases
from vectordb_bench.backend.cases import CaseType, PerformanceCustomDataset
from vectordb_bench.backend.clients import DB
from vectordb_bench.backend.filter import Filter, NewIntFilter
from vectordb_bench.interface import benchmark_runner
from vectordb_bench.models import CaseConfig, ConcurrencySearchConfig, TaskConfig, TaskStage

from bench.vdbbench.dataset import filter_name, first_allowed

LOAD_SECONDS = 36000.0  # runs.py has the limit that counts


class FilteredCustomDataset(PerformanceCustomDataset):
    """A custom data set whose filter is id >= a share of the rows.

    VectorDBBench has this filter for its own data sets only, and the label
    filter, for which its Milvus client needs an index that 2.3 does not know.
    """

    removed: float = 0.0

    def __init__(self, removed: float = 0.0, **custom: Any):
        super().__init__(**custom)
        self.removed = removed

    @property
    def filters(self) -> Filter:
        if not self.removed:
            return super().filters
        found = NewIntFilter(filter_rate=self.removed, int_value=first_allowed(self.removed, self.dataset.data.size))
        assert found.groundtruth_file == f"{filter_name(self.removed)}.parquet"
        return found


def milvus_index(index: str, params: dict[str, Any]) -> Any:
    """The stock client's configuration; build and search parameters are one there."""
    from vectordb_bench.backend.clients.milvus import config

    kinds = {
        "SCANN": config.SCANNConfig,
        "IVF_FLAT": config.IVFFlatConfig,
        "IVF_PQ": config.IVFPQConfig,
        "HNSW": config.HNSWConfig,
    }
    return kinds[index](**params)


def made(task: dict[str, Any]) -> TaskConfig:
    """VectorDBBench's own object for a task of runs.py."""
    if task["client"] == "milvus":
        db = DB.Milvus
        index = milvus_index(task["index"], {**task["build"], **task["search"]})
    else:
        from bench.vdbbench.client import CaseConfig as Index
        from bench.vdbbench.register import register

        db = register()
        index = Index(index=task["index"], build=task["build"], search=task["search"], build_threads=task["threads"])
    # Parent and children look the case up by its number: one entry is enough.
    cases.type2case[CaseType.PerformanceCustomDataset] = FilteredCustomDataset
    data = task["data"]
    case = CaseConfig(
        case_id=CaseType.PerformanceCustomDataset,
        k=task["k"],
        custom_case={
            "name": data["name"],
            "description": "",
            "load_timeout": LOAD_SECONDS,
            "optimize_timeout": LOAD_SECONDS,
            "removed": task["removed"],
            "dataset_config": {
                **{key: data[key] for key in ("name", "dir", "size", "dim", "metric_type")},
                "file_count": 1,
                "use_shuffled": False,
                "with_gt": True,
            },
        },
        concurrency_search_config=ConcurrencySearchConfig(
            num_concurrency=task["clients"], concurrency_duration=task["seconds"], concurrency_timeout=60
        ),
    )
    config = TaskConfig(
        db=db,
        db_config=db.config_cls(db_label=task["label"], **task["db"]),
        db_case_config=index,
        case_config=case,
        stages=[TaskStage(name) for name in task["stages"]],
    )
    if hasattr(config, "insert_batch_size"):  # version 2; before: NUM_PER_BATCH
        config.insert_batch_size = task["batch"]
    return config


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        task = json.load(file)
    benchmark_runner.run([made(task)], task["label"])
    if benchmark_runner.latest_error:
        sys.exit(benchmark_runner.latest_error)
    workers = multiprocessing.active_children()
    # Unlike its command line this also returns when the task's process has died;
    # then Python 3.13 would wait at its end for the children of that process.
    benchmark_runner._sync_running_task()
    if any(worker.exitcode for worker in workers):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
