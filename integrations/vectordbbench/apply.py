#!/usr/bin/env python3
"""Puts the client ScannFaiss into a checkout (or an installed copy) of VectorDBBench.

    integrations/vectordbbench/apply.py CHECKOUT

CHECKOUT is the folder that holds `vectordb_bench`. Copies scann_faiss/ beside the other clients and adds
the lines that name it; refuses, and changes nothing, where a place for them is missing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = "scann_faiss"


def before(text, place, lines, which=0):
    """`lines` in front of the `which`-th `place`."""
    start = -1
    for _ in range(which + 1):
        start = text.find(place, start + 1)
        if start < 0:
            raise ValueError(f"no {place.strip()!r}")
    return text[:start] + lines + text[start:]


def branch(module, name):
    lines = ["        if self == DB.ScannFaiss:", f"            from .{NAME}.{module} import {name}"]
    return "\n".join([*lines, "", f"            return {name}", "", ""])


def with_client(text):
    """clients/__init__.py"""
    unknown = '        msg = f"Unknown DB: {self.name}"\n'
    text = before(
        text,
        "        # DB.Pinecone, DB.Redis\n        return EmptyDBCaseConfig\n",
        branch("config", "ScannFaissIndexConfig"),
    )
    text = before(text, unknown, branch("config", "ScannFaissConfig"), 1)
    text = before(text, unknown, branch(NAME, "ScannFaiss"))
    return before(text, "\n    @property\n    def init_cls(", '    ScannFaiss = "ScannFaiss"\n')


def with_command(text):
    """cli/vectordbbench.py"""
    text = before(text, "\n\nif __name__ ==", "cli.add_command(ScannFaiss)\n")
    imports = text.rfind("from ..backend.clients.")
    if imports < 0:
        raise ValueError("no 'from ..backend.clients.'")
    return text[:imports] + f"from ..backend.clients.{NAME}.cli import ScannFaiss\n" + text[imports:]


def apply(checkout):
    package = checkout / "vectordb_bench"
    places = {
        package / "backend" / "clients" / "__init__.py": with_client,
        package / "cli" / "vectordbbench.py": with_command,
    }
    if not package.is_dir():
        raise ValueError(
            f"{checkout} holds no folder vectordb_bench: a checkout of VectorDBBench, or site-packages, does"
        )
    changed = {}
    for path, change in places.items():
        text = path.read_text(encoding="utf-8")
        if "ScannFaiss" in text:
            raise ValueError(f"{path} already names ScannFaiss")
        try:
            changed[path] = change(text)
        except ValueError as error:
            raise ValueError(f"{path}: {error}: another VectorDBBench than those of README.md") from None
    shutil.copytree(
        HERE / NAME,
        package / "backend" / "clients" / NAME,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for path, text in changed.items():
        path.write_text(text, encoding="utf-8")
    return list(changed)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, metavar="CHECKOUT")
    try:
        for path in apply(parser.parse_args(arguments).checkout):
            print(f"changed {path}")
    except (OSError, ValueError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    sys.exit(main())
