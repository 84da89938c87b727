"""VectorDBBench's command line, with a command for our client.

    python -m bench.vdbbench scannfaiss --path /tmp/index --nlist 512 --nprobe 16 \
        --reorder-k 300 --case-type PerformanceCustomDataset ...
"""

from __future__ import annotations

from typing import Annotated, Any

import click
import vectordb_bench.cli.vectordbbench  # noqa: F401  (the stock commands)
from vectordb_bench.backend.clients import DB
from vectordb_bench.cli.cli import CommonTypedDict, cli, click_parameter_decorators_from_typed_dict, run

from bench.vdbbench.client import CaseConfig, Config
from bench.vdbbench.register import NAME


class Options(CommonTypedDict):
    path: Annotated[str, click.option("--path", required=True, help="folder of the index")]
    nlist: Annotated[int, click.option("--nlist", default=1024, show_default=True)]
    sub_dim: Annotated[int, click.option("--sub-dim", default=None, type=int)]
    raw_data: Annotated[bool, click.option("--raw-data/--no-raw-data", default=True, show_default=True)]
    refine_type: Annotated[str, click.option("--refine-type", default="none", show_default=True)]
    soar_lambda: Annotated[float, click.option("--soar-lambda", default=None, type=float)]
    nprobe: Annotated[int, click.option("--nprobe", default=32, show_default=True)]
    reorder_k: Annotated[int, click.option("--reorder-k", default=None, type=int)]


@cli.command(name=NAME.lower())
@click_parameter_decorators_from_typed_dict(Options)
def scann_faiss(**given: Any) -> None:
    """SCANN of this project, in process."""
    build = {
        "nlist": given["nlist"],
        "sub_dim": given["sub_dim"],
        "with_raw_data": given["raw_data"],
        "refine_type": given["refine_type"],
        "soar_lambda": given["soar_lambda"],
    }
    search = {"nprobe": given["nprobe"], "reorder_k": given["reorder_k"]}
    run(
        db=DB[NAME],
        db_config=Config(db_label=given["db_label"], path=given["path"]),
        db_case_config=CaseConfig(build=build, search=search),
        **given,
    )


if __name__ == "__main__":
    cli()
