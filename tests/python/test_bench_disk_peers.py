"""bench/tiers --peers: what is left in memory of files, what is chosen, the whole command."""

import importlib.util
import mmap
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from reference import clustered  # noqa: E402

from bench import cli, disk_peers  # noqa: E402
from bench.commands import tiers  # noqa: E402
from bench.disk_worker import Tuned  # noqa: E402
from bench.engines.on_disk import DiskAnn, Ours  # noqa: E402
from bench.folders import Unavailable  # noqa: E402
from bench.page_cache import cached_bytes, forget  # noqa: E402
from bench.worker import Failed  # noqa: E402

FILE = b"some rows" * 100_000


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(FILE)
    forget(path)
    if cached_bytes(path):
        pytest.skip("this file system keeps its files in memory")
    return path


def test_a_file_is_forgotten_and_comes_back(file):
    assert file.read_bytes() == FILE
    assert cached_bytes(file) >= len(FILE)
    forget(file)
    assert cached_bytes(file) == 0
    assert file.read_bytes() == FILE


def test_a_mapped_file_is_forgotten_and_comes_back(file):
    with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == FILE
        assert cached_bytes(file) >= len(FILE)
        forget(file)
        assert cached_bytes(file) == 0
        assert mapped[:] == FILE


def test_an_empty_file_takes_no_memory(tmp_path):
    (tmp_path / "empty").touch()
    forget(tmp_path / "empty")
    assert cached_bytes(tmp_path / "empty") == 0


def test_refine_codes_are_compared_with_none():
    assert disk_peers.factories("IVF64,ScaNN,SQ8,RFlat") == ["IVF64,ScaNN,SQ8,RFlat", "IVF64,ScaNN,RFlat"]
    assert disk_peers.factories("ScaNN,RU8") == ["ScaNN,RU8"]


class FakeWorker:
    """Recall by nprobe; higher is slower."""

    def __init__(self, recalls):
        self.recalls, self.asked = recalls, []

    def tune(self, setting, k):
        self.asked.append(setting["nprobe"])
        return Tuned(self.recalls[setting["nprobe"]], cold=100.0 / setting["nprobe"], warm=setting["nprobe"])


def swept(recalls, targets):
    way, asked = disk_peers.Way("faiss", "", pathlib.Path(), {}), FakeWorker(recalls)
    options = tiers.Options(targets=targets)
    disk_peers.sweep(way, asked, [[{"nprobe": nprobe} for nprobe in recalls]], options)
    chosen = disk_peers.choose(way, asked, targets)
    return asked.asked, {(one.target, one.state): one.setting["nprobe"] for one in chosen}


def test_a_sweep_ends_where_the_recall_is_reached():
    asked, chosen = swept({1: 0.5, 2: 0.91, 4: 0.92, 8: 0.96, 16: 0.99}, (0.9, 0.95))
    assert asked == [1, 2, 4, 8]
    assert chosen == {(0.9, "cold"): 8, (0.9, "warm"): 2, (0.95, "cold"): 8, (0.95, "warm"): 8}


def test_a_sweep_ends_where_the_recall_stands_still():
    asked, chosen = swept({1: 0.5, 2: 0.91, 4: 0.91, 8: 0.96}, (0.9, 0.95))
    assert asked == [1, 2, 4] and {target for target, _ in chosen} == {0.9}


def test_a_failed_way_is_not_asked_again(capsys):
    way, asked = disk_peers.Way("faiss", "Faiss", pathlib.Path(), {}), []

    def fail():
        asked.append(1)
        raise Failed("worker ended with SIGKILL")

    disk_peers.attempt(way, fail)
    disk_peers.attempt(way, fail)
    assert asked == [1] and way.failure == "worker ended with SIGKILL"
    assert "Faiss: FAILED worker ended with SIGKILL" in capsys.readouterr().out


def test_our_settings_read_rows_for_what_is_rescored():
    index = type("Index", (), {"nlist": 16})
    for factory, has_refine in (("ScaNN,SQ8,RFlat", True), ("ScaNN,RFlat", False)):
        engine = Ours({"factory": factory})
        engine.index = index
        settings = [setting for group in engine.settings(20) for setting in group]
        assert settings and all(("refine_k" in setting) == has_refine for setting in settings)
        assert min(setting["reorder_k"] for setting in settings) >= 20
        assert max(setting["nprobe"] for setting in settings) == 16


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="numpy 1")
def test_diskann_is_refused_where_it_would_answer_wrong_ids():
    with pytest.raises(Unavailable, match="numpy 1.25"):
        DiskAnn({})


@pytest.mark.parametrize("given", [["--peers", "annoy"], ["--targets", "0"], ["--targets", ".9,1.5"]])
def test_wrong_options_are_told(given, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["tiers", *given])
    assert ended.value.code == 2 and "(allowed: " in capsys.readouterr().err


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    with disk_peers.folder_and_log(tmp_path) as (folder, _):
        (folder / "index").touch()
        with pytest.raises(Unavailable, match="another run"), disk_peers.folder_and_log(tmp_path):
            pass
        assert (folder / "index").exists()
    with disk_peers.folder_and_log(tmp_path) as (folder, _):
        assert not list(folder.iterdir())


@pytest.fixture
def written_set(tmp_path):
    rows = clustered(1500, 16, seed=11, clouds=30, width=0.3)
    np.save(tmp_path / "words.base.npy", rows[:1400])
    np.save(tmp_path / "words.query.npy", rows[1400:])
    out = str(tmp_path / "out")
    return [
        "--data",
        str(tmp_path),
        "--set",
        "words",
        "--out",
        out,
        "--cache",
        out,
        "--repetitions",
        "2",
        "--cold",
        "5",
    ]


def ran(*given):
    """(exit code, what was said)."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "tiers"), *given, "--peers", "faiss,diskann", "--targets", ".9"],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


def test_peers_are_measured_or_skipped_in_a_line(written_set, tmp_path):
    code, said = ran(*written_set, "--factory", "IVF16,ScaNN,SQ8,RFlat")
    assert code == 0, said
    table = (tmp_path / "out" / "tiers-peers.md").read_text()
    assert table in said and "failed" not in table
    for state in ("cold", "warm"):
        [part] = [part for part in table.split("words, recall@10 of 0.9")[1:] if f", {state}:" in part]
        assert "| ours IVF16,ScaNN,SQ8,RFlat |" in part and "| ours IVF16,ScaNN,RFlat " in part
        if importlib.util.find_spec("faiss") is not None:
            assert "| Faiss OnDiskInvertedLists" in part
        assert ("| DiskANN" in part) != ("- skipped: diskann: " in table)
    assert not (tmp_path / "out" / "tiers-peers").exists()


def test_a_wrong_factory_is_one_line(written_set, tmp_path):
    code, said = ran(*written_set, "--factory", "IVF16,NoSuchCodes")
    assert code == 1 and "error: build: " in said and "NoSuchCodes" in said and "Traceback" not in said
    assert not (tmp_path / "out" / "tiers-peers").exists()
