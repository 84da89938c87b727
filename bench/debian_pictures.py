"""Pictures in Debian packages, which are downloaded and read, never installed.

In:  names of packages.
Out: the bytes of their picture files, one after another: a package is read as
     a stream, so that the disk holds one package at a time. Next: sift_rows.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench.folders import Unavailable

# Photographs and drawings first: they give 1 million rows. Then what games show, first where
# a second gives most descriptors.
PACKAGES = (
    "plasma-workspace-wallpapers",
    "mate-backgrounds",
    "gnome-backgrounds",
    "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04",
    "tuxpaint-stamps-default",
    "openclipart-png",
    "opencv-doc",
    "stellarium-data",
    "nexuiz-textures",
    "openarena-081-textures",
    "endless-sky-data",
    "redeclipse-data",
    "ufoai-textures",
    "trigger-rally-data",
    "supertuxkart-data",
    "torcs-data",
    "flightgear-data-base",
    "widelands-data",
    "naev-data",
    "unknown-horizons",
    "hedgewars-data",
    "freecol",
    "mandelbulber2-data",
    "lebiniou-data",
)
KINDS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".jp2")
ARCHIVES = (".zip", ".pk3")
LEAST_BYTES = 8192  # below that a file is an icon
MAPS = re.compile(r"[_-](norm|normal|nrm|gloss|spec|specular|bump|height)\.\w+$")  # of textures: the picture again
CHUNK = 1 << 20


@dataclass(frozen=True)
class Package:
    """What apt-get says of a package: the file that it downloads, and its bytes."""

    name: str
    file: str
    size: int


def find(names: Iterable[str]) -> list[Package]:
    """The packages of these names, by apt's own lists; nothing is downloaded."""
    wanted = list(dict.fromkeys(names))
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise Unavailable("apt-get and dpkg-deb are missing: the pictures come from Debian packages")
    asked = subprocess.run(["apt-get", "--print-uris", "download", *wanted], cwd="/", capture_output=True, text=True)
    unknown = re.search(r"Unable to locate package (\S+)|No candidate version found for (\S+)", asked.stderr)
    if unknown:
        name = unknown[1] or unknown[2]
        raise Unavailable(f"--packages {name}: apt knows no such package (apt-get update brings its lists)")
    if asked.returncode != 0:
        raise Unavailable(f"apt-get: {last_line(asked.stderr)}")
    found = {}
    for line in asked.stdout.splitlines():
        said = re.fullmatch(r"'\S+' (([^_\s]+)_\S+\.deb) (\d+) \S+", line.strip())
        if said:
            found[said[2]] = Package(said[2], said[1], int(said[3]))
    missing = [name for name in wanted if name not in found]
    if missing:
        raise Unavailable(f"--packages {missing[0]}: apt-get does not say where it is")
    return [found[name] for name in wanted]


def last_line(text: str) -> str:
    """What a program said last."""
    return (text.strip().splitlines() or ["no word"])[-1]


def download(package: Package, folder: Path) -> Path:
    """The package's file in `folder`; apt-get takes one that is there and whole."""
    done = subprocess.run(
        ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package.name],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    path = folder / package.file
    if done.returncode != 0 or not path.is_file():
        raise Unavailable(f"{package.name} cannot be downloaded: {last_line(done.stderr)}")
    return path


def chosen(sizes: dict[str, int]) -> set[str]:
    """Names of the picture files worth reading among `sizes` (bytes by name).

    Of one picture in several sizes (5120x2880.png, 1280x800.png) the largest file.
    """
    best: dict[str, str] = {}
    for name, size in sorted(sizes.items()):
        if not name.lower().endswith(KINDS) or size < LEAST_BYTES or MAPS.search(name.lower()):
            continue
        picture = re.sub(r"\d{3,}x\d{3,}", "", name)
        if picture not in best or size > sizes[best[picture]]:
            best[picture] = name
    return set(best.values())


def pictures(deb: Path, scratch: Path) -> Iterator[bytes]:
    """The picture files of a package, those in its archives too (they are kept in `scratch` meanwhile)."""
    try:
        with _files(deb) as files:
            wanted = chosen({member.name: member.size for member in files if member.isfile()})
        with _files(deb) as files:
            for member in files:
                content = files.extractfile(member) if member.isfile() else None
                if content is None:
                    continue
                if member.name in wanted:
                    yield content.read()
                elif member.name.lower().endswith(ARCHIVES):
                    with tempfile.TemporaryFile(dir=scratch) as copy:
                        shutil.copyfileobj(content, copy, CHUNK)
                        yield from _in_archive(copy)
    except tarfile.TarError as wrong:
        raise ValueError(f"{deb}: {wrong}") from None


def _in_archive(file: IO[bytes]) -> Iterator[bytes]:
    """The picture files of a zip archive; none of one that is damaged."""
    try:
        with zipfile.ZipFile(file) as archive:
            for name in sorted(chosen({entry.filename: entry.file_size for entry in archive.infolist()})):
                yield archive.read(name)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError):  # not zip, a method, a password
        return


@contextmanager
def _files(deb: Path) -> Iterator[tarfile.TarFile]:
    """The files of a package as a stream, which is read once, from begin to end."""
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        with tarfile.open(fileobj=program.stdout, mode="r|", bufsize=CHUNK) as files:
            yield files
    finally:
        program.kill()
        program.wait()
