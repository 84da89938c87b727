"""The files of the PyPI package `milvus`: found, unpacked once, configured.

In:  the installed package, a version with an embedded server (2.3.x); it is
     read, never imported and never changed. Out: a folder with the server's
     binaries, and the configuration in the folder of one server.
Next: server.py runs the binary.
"""

from __future__ import annotations

import importlib.util
import lzma
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

INSTALL = "pip install --no-deps milvus==2.3.5"

# {{ name }}, {{ name: default }}, {{ name(type): default }}
_PLACEHOLDER = re.compile(r"\{\{\s*(?P<name>\w+)\s*(?:\(\w+\))?\s*(?::\s*(?P<default>.*?))?\s*\}\}")


@dataclass(frozen=True)
class MilvusPackage:
    """An installed package `milvus`."""

    folder: Path
    version: str

    @property
    def template(self) -> str:
        """The text of its configuration, with placeholders."""
        return (self.folder / "data" / "config.yaml.template").read_text(encoding="utf-8")


def find_package(environment: str | Path | None = None) -> MilvusPackage:
    """Find the package in this Python, or in the virtual environment given.

    Raises
    ------
    FileNotFoundError
        It is not installed there; the message says how to install it.
    """
    if environment is None:
        spec = importlib.util.find_spec("milvus")  # finds it without importing
        folders = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
        where = "this Python environment"
    else:
        folders = sorted(Path(environment).glob("lib/python3*/site-packages/milvus"))
        where = f"the environment {environment}"
    for folder in folders:
        if (folder / "data" / "bin" / "milvus.lzma").is_file():
            source = (folder / "__init__.py").read_text(encoding="utf-8")
            version = re.search(r"^__version__ = ['\"]([^'\"]+)", source, re.M)
            return MilvusPackage(folder, version[1] if version else "unknown")
    raise FileNotFoundError(f"no Milvus server in {where}: {INSTALL}")


def default_binaries() -> Path:
    """Where servers are unpacked unless told otherwise."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "faiss_ext"


def unpack(
    package: MilvusPackage, binaries: str | Path | None = None, on_step: Callable[[str], None] | None = None
) -> Path:
    """Unpack the package's executable and libraries (246 MB) unless done before.

    Returns the folder with them, below `binaries`. It appears under its name
    only when it is complete. `on_step` is told of the work before it begins.

    Raises
    ------
    OSError
        A file of the package is damaged, or the folder cannot be written.
    """
    into = Path(binaries or default_binaries()).resolve()
    folder = into / f"milvus-{package.version}"
    if folder.is_dir():
        return folder
    into.mkdir(parents=True, exist_ok=True)
    if on_step is not None:
        on_step(f"unpacking Milvus {package.version} into {folder} (246 MB, this once)")
    part = Path(tempfile.mkdtemp(prefix=f".milvus-{package.version}.", dir=into))
    try:
        for packed in sorted((package.folder / "data" / "bin").glob("*.lzma")):
            unpacked = part / packed.stem
            try:
                with lzma.open(packed) as source, open(unpacked, "wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
            except (lzma.LZMAError, EOFError) as error:
                raise OSError(f"{packed} is damaged ({error}); {INSTALL} --force-reinstall") from error
            unpacked.chmod(0o755)
        part.chmod(0o755)
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def default_ports(package: MilvusPackage) -> dict[str, int]:
    """Ports of the configuration, by placeholder, with the package's defaults."""
    return {
        found["name"]: int(found["default"] or 0)
        for found in _PLACEHOLDER.finditer(package.template)
        if found["name"].endswith("_port")
    }


def write_configuration(package: MilvusPackage, base_dir: Path, ports: Mapping[str, int]) -> None:
    """Write configs/milvus.yaml and configs/glog.conf, and make the folders they name."""
    logs, data, configs = (base_dir / name for name in ("logs", "data", "configs"))
    for folder in (logs, data, configs):
        folder.mkdir(parents=True, exist_ok=True)
    values = {
        "etcd_log_path": logs / "etcd.log",
        "etcd_data_dir": data / "etcd.data",
        "local_storage_dir": data,
        "rocksmq_data_dir": data / "rocksmq",
        "system_log_path": logs,
        **ports,
    }

    def value(found: re.Match[str]) -> str:
        if found["name"] in values:
            return str(values[found["name"]])
        if found["default"] is None:
            raise ValueError(f"milvus {package.version} wants a value for {found['name']}, which is not known here")
        return found["default"]

    text = _PLACEHOLDER.sub(value, package.template)
    (configs / "milvus.yaml").write_text(text, encoding="utf-8")
    shutil.copyfile(package.folder / "data" / "glog.conf", configs / "glog.conf")
