"""bench/siftset: packages -> pictures -> descriptors -> sets; without a network, on packages made here."""

import functools
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench import cli, datasets, debian_pictures, sift_rows  # noqa: E402
from bench.commands import siftset  # noqa: E402
from bench.folders import Unavailable  # noqa: E402

needs_dpkg = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="Debian's dpkg-deb is not installed")


@pytest.fixture
def cv2():
    return pytest.importorskip("cv2", reason="PyPI opencv-python-headless is not installed")


# ------------------------------------------------------------------ packages


def test_the_largest_of_sizes_is_chosen_and_no_icon():
    sizes = {
        "./a/1280x800.png": 20_000,
        "./a/5120x2880.png": 90_000,
        "./b/1280x800.png": 30_000,
        "./b/icon.png": 800,
        "./wall_norm.jpg": 50_000,
        "./wall.JPG": 50_000,
        "./words.txt": 50_000,
    }
    assert debian_pictures.chosen(sizes) == {"./a/5120x2880.png", "./b/1280x800.png", "./wall.JPG"}


def apt(monkeypatch, returncode=0, stdout="", stderr=""):
    """apt-get says this."""
    done = subprocess.CompletedProcess([], returncode, stdout, stderr)
    monkeypatch.setattr(debian_pictures.shutil, "which", lambda name: name)
    monkeypatch.setattr(debian_pictures.subprocess, "run", lambda *args, **kwargs: done)


def test_what_apt_says_is_read(monkeypatch):
    said = "".join(f"'http://x/{n}.deb' {n}_1%3a2-1_all.deb {size} SHA256:ab\n" for n, size in (("b", 7), ("a", 9)))
    apt(monkeypatch, stdout=said)
    a, b = debian_pictures.find(["a", "b", "a"])
    assert (a.name, a.file, a.size, b.size) == ("a", "a_1%3a2-1_all.deb", 9, 7)
    with pytest.raises(Unavailable, match="--packages c: apt-get does not say"):
        debian_pictures.find(["c"])


@pytest.mark.parametrize(
    "said, expected",
    [
        ("E: Unable to locate package none\n", "--packages none: apt knows no such package"),
        ("W: x\nE: The lists are locked\n", "apt-get: E: The lists are locked"),
        ("", "apt-get: no word"),
    ],
)
def test_what_apt_refuses_is_one_line(said, expected, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(siftset.importlib.util, "find_spec", lambda name: name)
    apt(monkeypatch, 100, stderr=said)
    assert cli.main(["siftset", "--packages", "none", "--out", str(tmp_path / "out")]) == 2
    assert expected in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_no_network_is_said(monkeypatch, tmp_path):
    apt(monkeypatch, 100, stderr="Err:1 x\nE: Failed to fetch x  Could not resolve 'x'\n")
    with pytest.raises(Unavailable, match="a cannot be downloaded: E: Failed to fetch"):
        debian_pictures.download(debian_pictures.Package("a", "a.deb", 1), tmp_path)


def test_a_debian_is_needed(monkeypatch):
    monkeypatch.setattr(debian_pictures.shutil, "which", lambda name: None)
    with pytest.raises(Unavailable, match="apt-get and dpkg-deb are missing"):
        debian_pictures.find(["a"])


def package(path, files):
    """A Debian package of these files, without a control file: only its contents are read."""

    def archive(content):
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w:gz") as tar:
            for name, data in content.items():
                entry = tarfile.TarInfo(f"./{name}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        return written.getvalue()

    control = b"Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n"
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": archive({"control": control}),
        "data.tar.gz": archive(files),
    }
    with open(path, "wb") as file:
        file.write(b"!<arch>\n")
        for name, data in members.items():
            file.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode())
            file.write(data + b"\n" * (len(data) % 2))
    return path


def zipped(**files):
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"{name}.png", data)
    return written.getvalue()


@needs_dpkg
def test_pictures_of_a_package_and_its_archives(tmp_path):
    big = {name: name.encode() * 9000 for name in "abcd"}
    files = {
        "usr/a.png": big["a"],
        "usr/small.png": b"x",
        "usr/data.pk3": zipped(c=big["c"], b=big["b"], tiny=b"x"),
        "usr/d.txt": big["d"],
        "usr/broken.zip": b"no archive",
    }
    deb = package(tmp_path / "x.deb", files)
    assert list(debian_pictures.pictures(deb, tmp_path)) == [big["a"], big["b"], big["c"]]
    assert [path.name for path in tmp_path.iterdir()] == ["x.deb"]


@needs_dpkg
def test_a_damaged_package_is_named(tmp_path):
    deb = package(tmp_path / "x.deb", {"usr/a.png": os.urandom(1 << 16)})
    deb.write_bytes(deb.read_bytes()[:-40_000])
    with pytest.raises(ValueError, match="x.deb: "):
        list(debian_pictures.pictures(deb, tmp_path))


# --------------------------------------------------------------- descriptors


def test_hashes_tell_rows_apart():
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 3, (20_000, 128), dtype=np.uint8)
    rows[1:129] = rows[0]
    rows[np.arange(1, 129), np.arange(128)] += 1  # one number differs
    rows[-1] = rows[7]
    assert len(np.unique(sift_rows.row_hashes(rows))) == len(rows) - 1
    np.testing.assert_array_equal(sift_rows.row_hashes(rows[5:9]), sift_rows.row_hashes(rows)[5:9])


def made(rng, n, first, pixels=100, look=None):
    """A picture of random rows; the first byte of its digest decides whether it gives queries."""
    look = rng.random(256) < 0.5 if look is None else look
    digest = bytes([first]) + rng.bytes(sift_rows.DIGEST - 1)
    return sift_rows.Picture(digest, look, pixels, rng.integers(1, 256, (n, 128), dtype=np.uint8))


def test_pictures_are_collected_without_what_was_seen():
    rng = np.random.default_rng(2)
    base, query, large = made(rng, 50, 1), made(rng, 40, sift_rows.QUERY_SHARE), made(rng, 30, 2, pixels=900)
    near = large.look.copy()
    near[:10] ^= True
    copy = made(rng, 60, 3, pixels=800, look=near)  # large again, smaller
    base.rows[4] = base.rows[5]
    query.rows[0] = base.rows[1]  # a row of the base is no query
    first = sift_rows.together([base, copy, query, large, made(rng, 0, 1)])
    assert first.pixels.tolist() == [900, 800, 100, 100] and len(first.rows) == 180
    second = sift_rows.together([made(rng, 20, 5), made(rng, 9, 6, look=base.look)])

    collected = sift_rows.Collected(per_picture=45)
    collected.take(first)
    collected.take(second)
    assert collected.base.count == 44 + 30 + 20  # base cut to 45 with one of them twice, large, the other package's
    assert collected.pictures == {"base": 3, "query": 1, "left out": 2}
    rows = np.concatenate(collected.base.rows)
    assert len(np.unique(rows, axis=0)) == len(rows) == collected.base.count
    queries = collected.queries(100, np.random.default_rng(1))
    assert len(queries) == 39 and {q.tobytes() for q in queries} == {q.tobytes() for q in query.rows[1:]}


def test_no_pictures_are_no_rows():
    empty = sift_rows.together([])
    collected = sift_rows.Collected(per_picture=10)
    collected.take(empty)
    assert collected.base.count == 0 and len(collected.queries(5, np.random.default_rng(1))) == 0


def test_a_package_is_described_once(tmp_path):
    rng, path = np.random.default_rng(3), tmp_path / "x.npz"
    first = sift_rows.together([made(rng, 8, 1), made(rng, 5, 2)])
    assert sift_rows.kept(path, lambda: first) is first
    again = sift_rows.kept(path, lambda: pytest.fail("it is kept"))
    for name, value in vars(first).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    np.testing.assert_array_equal(again.rows_of(1, 3), first.rows[first.ends[0] : first.ends[0] + 3])
    path.write_bytes(path.read_bytes()[:-100])  # as a full disk leaves it
    assert sift_rows.kept(path, lambda: first) is first and list(tmp_path.iterdir()) == [path]


def picture(cv2, seed, size=320, kind=".png", scale=1.0):
    """A file of blots on a gradient."""
    rng = np.random.default_rng(seed)
    drawn = np.tile(np.linspace(0, 200, size, dtype=np.uint8), (size, 1))
    for x, y, r, value in rng.integers(0, size, (120, 4)).tolist():
        cv2.circle(drawn, (x, y), 2 + r // 12, value % 256, -1)
    drawn = cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(kind, drawn)[1].tobytes()


def test_a_picture_is_described(cv2):
    file = picture(cv2, 1)
    got, again = sift_rows.describe(file, 1600), sift_rows.describe(file, 1600)
    assert got.rows.dtype == np.uint8 and got.rows.shape[1] == 128 and len(got.rows) > 50
    assert got.rows.any(axis=1).all() and len(np.unique(got.rows, axis=0)) == len(got.rows)
    length = np.linalg.norm(got.rows.astype(float), axis=1)
    assert 480 < np.median(length) < 540
    assert got.digest == again.digest and np.array_equal(got.rows, again.rows)
    assert len(sift_rows.describe(file, 100).rows) < len(got.rows)  # scaled down

    smaller = sift_rows.describe(picture(cv2, 1, kind=".jpg", scale=0.7), 1600)
    other = sift_rows.describe(picture(cv2, 2), 1600)
    assert (smaller.look ^ got.look).sum() <= sift_rows.ALIKE < (other.look ^ got.look).sum()
    assert sift_rows.describe(b"no picture", 1600) is None
    assert sift_rows.describe(picture(cv2, 1, size=40), 1600) is None  # an icon


def test_pictures_come_in_their_order(cv2):
    files = [picture(cv2, 1), b"none", picture(cv2, 2), picture(cv2, 3)]
    want = [sift_rows.describe(f, 1600).digest for f in files if f != b"none"]
    with ThreadPoolExecutor(2) as pool:
        for window in (1, 2, 9):
            assert [p.digest for p in sift_rows.described(files, 1600, pool, window)] == want


# ----------------------------------------------------------------------- sets


def test_names_of_sets():
    names = [siftset.name_of(n) for n in (1_000_000, 10_000_000, 1_500_000, 3000, 204_450)]
    assert names == ["sift-1m", "sift-10m", "sift-1500k", "sift-3k", "sift-204450"]
    assert [siftset.rounded_down(n) for n in (8_765_432, 999, 99, 7, 0)] == [8_700_000, 990, 99, 7, 0]


def test_a_disk_that_is_too_small_is_said(monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(siftset.shutil, "disk_usage", lambda path: usage._replace(free=10**6))
    with pytest.raises(Unavailable, match=r"has 0.0 GB free, the set and its packages take 0.\d"):
        siftset.check_disk(siftset.Options(out=tmp_path), [debian_pictures.Package("a", "a.deb", 10**6)])


@pytest.fixture
def packages(cv2, monkeypatch, tmp_path):
    """Two packages of twenty pictures each, which are copied where others are downloaded; how often."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("Debian's dpkg-deb is not installed")
    downloads = []
    for number, name in enumerate("ab"):
        files = {f"{i}.png": picture(cv2, 100 * number + i, size=400) for i in range(20)}
        package(tmp_path / f"{name}.deb", {**files, "copy.jpg": picture(cv2, 1, size=400, kind=".jpg")})

    def download(wanted, folder):
        downloads.append(wanted.name)
        return pathlib.Path(shutil.copy(tmp_path / wanted.file, folder))

    known = {name: debian_pictures.Package(name, f"{name}.deb", 1000) for name in "ab"}
    monkeypatch.setattr(debian_pictures, "LEAST_BYTES", 100)
    monkeypatch.setattr(debian_pictures, "find", lambda names: [known[name] for name in names])
    monkeypatch.setattr(debian_pictures, "download", download)
    threads = functools.partial(ThreadPoolExecutor, thread_name_prefix="describe")
    monkeypatch.setattr(siftset, "ProcessPoolExecutor", lambda jobs, context, begin: threads(jobs))
    return downloads


def test_a_set_is_made(packages, tmp_path, capsys):
    out = tmp_path / "out"

    def made_set(*arguments):
        command = ["siftset", "--packages", "a,b", "--out", str(out), "--queries", "20", "--jobs", "2", *arguments]
        assert cli.main(command) == 0
        return capsys.readouterr().out

    printed = made_set("--rows", "500")
    assert packages == ["a"] and "sift-500: 500 rows of" in printed and "1 that look like another" in printed
    data = datasets.load(out, "sift-500")
    assert data.base.dtype == np.uint8 and data.base.shape == (500, 128) and data.metric == "l2"
    assert data.query.dtype == np.float32 and data.query.shape == (20, 128)
    first = [(out / f"sift-500.{part}.u8bin").read_bytes() for part in ("base", "query")]
    made_set("--rows", "500", "--jobs", "1")
    assert packages == ["a"]  # its descriptors are kept
    assert first == [(out / f"sift-500.{part}.u8bin").read_bytes() for part in ("base", "query")]

    printed = made_set("--rows", "10000000")
    assert packages == ["a", "b"] and "rows at most: more --packages" in printed
    [name] = [line.split(":")[0] for line in printed.splitlines() if line.startswith("sift-")]
    everything = datasets.load(out, name)
    seen = {row.tobytes() for row in everything.base}
    assert len(seen) == len(everything.base) > 500
    assert not seen & {row.astype(np.uint8).tobytes() for row in everything.query}
    assert not list(out.rglob("*.part")) and not list(out.rglob("*.deb"))
