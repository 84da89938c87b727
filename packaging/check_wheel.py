#!/usr/bin/env python3
"""What a wheel must be before anybody gets it.

usage: packaging/check_wheel.py WHEEL...    needs readelf, nm and objdump (binutils)

Its name and size; which libraries it holds and which it asks the system for;
what they export, and how they are hardened; notices, README and requirements in
its metadata. Whether it works: packaging/test-wheel.
"""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tempfile
import zipfile
from email.message import Message
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST_BYTES = 12_000_000
NAME = re.compile(r"faiss_ext-(?P<version>[0-9.]+)-(?P<python>cp3\d+)-(?P=python)-(?P<system>[a-z0-9_.]+)\.whl")
SYSTEM = re.compile(r"(manylinux_\d+_\d+|manylinux20\d\d)_(x86_64|aarch64)(\.manylinux[a-z0-9_]+)?")
# what every Linux of that tag has
OF_THE_SYSTEM = re.compile(r"(libc|libm|libdl|libpthread|libstdc\+\+|libgcc_s|ld-linux-[a-z0-9-]+)\.so\.\d")
NOTICES = {
    "LICENSE",
    "THIRD_PARTY_NOTICES.md",
    "Faiss.txt",
    "GCC-runtime.txt",
    "OpenBLAS.txt",
    "pybind11.txt",
    "zlib.txt",
}
failures = 0


def check(fine: object, what: str) -> None:
    global failures
    if not fine:
        failures += 1
        print(f"FAILED: {what}")


def output(*command: object) -> str:
    return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def needed(library: Path) -> list[str]:
    return re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "--wide", "--dynamic", library))


def run_test(*command: object) -> None:
    run = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    check(run.returncode == 0, f"{Path(str(command[0])).name}: {run.stdout.strip()}")


def check_libraries(folder: Path, machine: str) -> None:
    libraries = sorted(path for path in folder.rglob("*.so*"))
    modules = [path for path in libraries if path.name.startswith("_faiss_ext.")]
    bundled = [path for path in libraries if path.parent.name == "faiss_ext.libs"]
    plugin = [path for path in libraries if path.name.startswith("libknowhere_scann")]
    check(len(modules) == 1, f"one module, not {[path.name for path in modules]}")
    check(
        [path.name.split("-")[0] for path in bundled] == ["libgomp"],
        f"only libgomp comes as a library of its own, not {[path.name for path in bundled]}",
    )
    check(len(plugin) == (2 if machine == "x86_64" else 0), f"plug-in: {[path.name for path in plugin]}")
    check(len(libraries) == len(modules + bundled + plugin), f"unknown libraries: {[path.name for path in libraries]}")

    inside = {path.name for path in bundled}
    for library in modules + bundled:
        foreign = [name for name in needed(library) if name not in inside and not OF_THE_SYSTEM.fullmatch(name)]
        check(not foreign, f"{library.name} wants {foreign} from the system")
    for module in modules:
        exported = output("nm", "--dynamic", "--defined-only", "--format=posix", module).split()[::4]
        check(exported == ["PyInit__faiss_ext"], f"{module.name} exports {exported[:9]}")
    hardened = modules + [path for path in plugin if "engine" in path.name]
    run_test(ROOT / "tests/package/test_hardening", "readelf", *hardened)
    if plugin:
        run_test(ROOT / "tests/package/test_plugin_symbols", "nm", "objdump", *sorted(plugin))


def check_metadata(metadata: Message, names: list[str], version: str) -> None:
    check(metadata["Version"] == version, f"version {metadata['Version']} in the metadata, {version} in the name")
    notices = {name.rsplit("/", 1)[1] for name in names if ".dist-info/licenses/" in name}
    check(notices >= NOTICES, f"notices are missing: {sorted(NOTICES - notices)}")
    check(len(metadata.get_all("License-File", [])) >= len(NOTICES), "notices are not named in the metadata")
    wanted = [name for name in metadata.get_all("Requires-Dist", []) if "extra ==" not in name]
    check([re.split(r"[<>=~ ]", name)[0] for name in wanted] == ["numpy"], f"requires {wanted}, not only numpy")
    check(metadata["Description-Content-Type"] == "text/markdown", "the description is not Markdown")
    text = str(metadata.get_payload())
    check(len(text) > 2000, "the description is no README")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"https?://|#", link)]
    check(not links, f"links of the description that lead nowhere on an index page: {links}")


def check_wheel(path: Path) -> None:
    name = NAME.fullmatch(path.name)
    check(name, f"{path.name} is no faiss_ext-VERSION-cpXY-cpXY-SYSTEM.whl")
    if not name:
        return
    system = SYSTEM.fullmatch(name["system"])
    check(system, f"{name['system']} is no manylinux tag: packaging/repair-wheel")
    project = re.search(r"project\(faiss_ext VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text())
    check(
        project and project[1] == name["version"],
        f"version {name['version']}, CMakeLists.txt has {project and project[1]}",
    )
    size = path.stat().st_size
    check(size <= MOST_BYTES, f"{size:,} bytes, {MOST_BYTES:,} at most")
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        names = archive.namelist()
        tops = {name.split("/")[0] for name in names}
        known = {"faiss_ext", "faiss_ext.libs", f"faiss_ext-{name['version']}.dist-info"}
        check(tops <= known, f"unknown folders: {sorted(tops - known)}")
        check("faiss_ext/py.typed" in names, "no type hints")
        archive.extractall(folder)
        check_libraries(Path(folder), system[2] if system else "")
        metadata = Path(folder) / f"faiss_ext-{name['version']}.dist-info" / "METADATA"
        check_metadata(email.message_from_string(metadata.read_text(encoding="utf-8")), names, name["version"])
        installed = sum(entry.file_size for entry in archive.infolist())
    print(f"{path.name}: {size / 1e6:.1f} MB, {installed / 1e6:.1f} MB installed")


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    for path in map(Path, sys.argv[1:]):
        if not zipfile.is_zipfile(path):
            sys.exit(f"{path}: {'no wheel, not even a zip file' if path.exists() else 'no such file'}")
    for path in map(Path, sys.argv[1:]):
        check_wheel(path)
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
