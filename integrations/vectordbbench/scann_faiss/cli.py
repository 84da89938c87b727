from typing import Annotated, Unpack

import click

from ....cli.cli import CommonTypedDict, cli, click_parameter_decorators_from_typed_dict, run
from .. import DB


class ScannFaissTypedDict(CommonTypedDict):
    path: Annotated[str, click.option("--path", type=str, help="folder of the index", required=True)]
    nlist: Annotated[int, click.option("--nlist", type=int, default=1024, show_default=True)]
    with_raw_data: Annotated[bool, click.option("--raw-data/--no-raw-data", "with_raw_data", default=True)]
    sub_dim: Annotated[int | None, click.option("--sub-dim", type=int, help="dimensions of a code")]
    refine_type: Annotated[str | None, click.option("--refine-type", type=str, help="none, SQ8, SQfp16 or SQbf16")]
    soar_lambda: Annotated[float | None, click.option("--soar-lambda", type=float, help="> 0: a copy in a second list")]
    nprobe: Annotated[int, click.option("--nprobe", type=int, default=32, show_default=True)]
    reorder_k: Annotated[int | None, click.option("--reorder-k", type=int, help="rows compared with raw data")]
    target_recall: Annotated[
        float | None, click.option("--target-recall", type=float, help="0.5..0.999, instead of nprobe and reorder_k")
    ]


@cli.command(name="scannfaiss")
@click_parameter_decorators_from_typed_dict(ScannFaissTypedDict)
def ScannFaiss(**parameters: Unpack[ScannFaissTypedDict]):
    from .config import ScannFaissConfig, ScannFaissIndexConfig

    own = {name: parameters[name] for name in ScannFaissIndexConfig.__annotations__ if name in parameters}
    run(
        db=DB.ScannFaiss,
        db_config=ScannFaissConfig(db_label=parameters["db_label"], path=parameters["path"]),
        db_case_config=ScannFaissIndexConfig(**own),
        **parameters,
    )
