"""VectorDBBench's comparison of indexes: in process, and inside a Milvus server.

Started by ../vectordbbench, which makes the environments. Out, in --out:
vectordbbench-<set>.jsonl (one measurement a line), .md (tables), -<where>-<n>.png
and .svg (plots), and VectorDBBench's own result files and logs below runs/.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import datasets
import report

from vdbbench import dataset, runs
from vdbbench.rows import Row, rows

SMOKE = {"rows": 2000, "queries": 100, "k": 10, "seconds": 2, "clients": "1,2", "settings": 1}
SMOKE_ROWS = {"client": ("ours", "IVF_FLAT"), "server": ("ours", "SCANN")}


class Comparison:
    """One set; measures row by row, keeps points and failures."""

    def __init__(self, options):
        self.options = options
        data = datasets.load(options.data, options.set, options.queries)
        if options.rows:
            data.base = data.base[: options.rows]
        self.data = data
        truth = datasets.ground_truth(data, options.cache)
        if options.k > truth.shape[1]:
            raise SystemExit(f"--k {options.k} (allowed: 1..{truth.shape[1]})")
        self.folder = Path(options.out) / "runs" / f"{data.name}-{len(data.base)}"
        self.facts = dataset.write(self.folder / "data", data, truth, [options.removed])
        self.points: list[dict] = []
        self.failures: list[dict] = []

    def run(self) -> None:
        n, d = self.data.base.shape
        for where in self.options.only.split(","):
            wanted = rows(where, n, d, self.options.k)
            if self.options.smoke:
                wanted = [row for row in wanted if row.name in SMOKE_ROWS[where]]
            for row in wanted:
                if self.options.indexes and row.name not in self.options.indexes.split(";"):
                    continue
                print(f"{where}: {row.name}", flush=True)
                try:
                    self._in_process(row) if where == "client" else self._in_server(row)
                except (runs.Failed, OSError, RuntimeError) as reason:  # the next row may do better
                    print(f"  FAILED {reason}", flush=True)
                    self.failures.append({"engine": f"{where}: {row.name}", "build": row.build, "reason": str(reason)})

    def _in_process(self, row: Row) -> None:
        folder = self.folder / "client" / _slug(row.name)
        points = self._measure(row, "client", folder, "faiss_ext", {"path": str(folder)})
        size = (folder / "collection" / "index").stat().st_size
        self._keep(points, size, "index file", "faiss_ext" if row.ours else "faiss-cpu")

    def _in_server(self, row: Row) -> None:
        from vdbbench.server import MilvusRow  # needs the package faiss_ext

        folder = self.folder / "server" / _slug(row.name)
        python = self.options.server_python
        with MilvusRow(folder / "milvus", row.ours, self.options.milvus_environment, python) as milvus:
            points = self._measure(row, "server", folder, "milvus", {"uri": milvus.uri})
            library = milvus.served_by(row.index)
            self._keep(points, milvus.loaded_bytes(), "RSS by load", library)

    def _measure(self, row: Row, where: str, folder: Path, client: str, db: dict) -> list[dict]:
        """All settings of a row on one load, and the middle one with a filter."""
        options = self.options
        python = options.client_python if where == "client" else options.server_python
        settings = row.settings[len(row.settings) // 2 :][:1] if options.settings == 1 else row.settings
        wanted = [(setting, 0.0) for setting in settings]
        wanted.append((settings[len(settings) // 2], options.removed))
        points, insert_seconds, build_seconds = [], 0.0, 0.0
        for number, (setting, removed) in enumerate(wanted):
            task = runs.Task(
                label=f"{_slug(row.name)}-{number}",
                client=client,
                index=row.index,
                build=row.build,
                search=setting,
                db=db,
                data={key: self.facts[key] for key in ("name", "dir", "size", "dim", "metric_type")},
                k=options.k,
                clients=[int(n) for n in options.clients.split(",")],
                seconds=options.seconds,
                load=number == 0,
                removed=removed,
                threads=options.threads,
            )
            got = runs.run(python, task, folder / task.label, options.timeout)
            if number == 0:
                insert_seconds, build_seconds = got.insert_seconds, got.build_seconds
            print(
                f"  {report.words(setting)}{f', filter removes {removed:.0%}' if removed else ''}: "
                f"recall {got.recall:.4f}, QPS {', '.join(report.whole(q) for q in got.qps)}, p99 {got.p99_ms:.2f} ms",
                flush=True,
            )
            points.append(
                {
                    "engine": row.name,
                    "where": where,
                    "build": row.build,
                    "setting": setting,
                    "removed": removed,
                    "recall": got.recall,
                    "clients": task.clients,
                    "qps_of_clients": got.qps,
                    "p99_ms": got.p99_ms,
                    "insert_seconds": insert_seconds,
                    "build_seconds": build_seconds,
                    "k": options.k,
                    "set": self.data.name,
                    "rows": len(self.data.base),
                    "d": self.data.base.shape[1],
                    "metric": self.data.metric,
                    "cpu": report.cpu_model(),
                    "files": got.files,
                }
            )
        return points

    def _keep(self, points: list[dict], memory: int, kind: str, library: str) -> None:
        for point in points:
            point.update(memory_bytes=memory, memory_kind=kind, library=library)
        self.points += points


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower()).replace("--", "-")


def tables(points: list[dict], failures: list[dict]) -> str:
    """Markdown: one table a vehicle, without and with the filter, then failures."""
    parts = []
    for where, title in (("client", "in process"), ("server", "inside Milvus 2.3.5")):
        for filtered in (False, True):
            chosen = [p for p in points if p["where"] == where and bool(p["removed"]) == filtered]
            if not chosen:
                continue
            first = chosen[0]
            head = f"{title}{', filter removes %d %%' % round(first['removed'] * 100) if filtered else ''}"
            columns = [head, "build", "search", f"recall@{first['k']}"]
            columns += [f"QPS, {n} client{'s' * (n > 1)}" for n in first["clients"]]
            columns += ["p99 ms", "insert s", "build s", f"MB ({first['memory_kind']})", "answered by"]
            parts.append(
                report.table(
                    columns,
                    [
                        [
                            p["engine"],
                            report.words(p["build"]),
                            report.words(p["setting"]),
                            f"{p['recall']:.4f}",
                            *[report.whole(q) for q in p["qps_of_clients"]],
                            f"{p['p99_ms']:.2f}",
                            f"{p['insert_seconds']:.1f}",
                            f"{p['build_seconds']:.1f}",
                            f"{p['memory_bytes'] / 1e6:.1f}",
                            p["library"],
                        ]
                        for p in chosen
                    ],
                )
            )
    if failures:
        parts.append(report.failure_table(failures))
    return "\n\n".join(parts) + "\n"


def draw(stem: Path) -> list[Path]:
    """Tables and plots of a result file."""
    points = report.read(f"{stem}.jsonl")
    failures = [p for p in points if "reason" in p]
    points = [p for p in points if "reason" not in p]
    Path(f"{stem}.md").write_text(tables(points, failures), encoding="utf-8")
    written = [Path(f"{stem}.jsonl"), Path(f"{stem}.md")]
    try:
        import plot
    except ImportError as reason:
        print(f"no plots: {reason}")
        return written
    for where in ("client", "server"):
        chosen = [p for p in points if p["where"] == where and not p["removed"]]
        for i, n in enumerate(chosen[0]["clients"] if chosen else []):
            mode = f"{n} client{'s' * (n > 1)}"
            curves = [{**p, "mode": mode, "qps": p["qps_of_clients"][i]} for p in chosen]
            title = (
                f"{chosen[0]['set']}: VectorDBBench, {'in process' if where == 'client' else 'Milvus 2.3.5'}, {mode}"
            )
            written += plot.speed_curves(
                curves, mode, title, f"{stem}-{where}-{n}", low=0.5, y_label="queries per second"
            )
    return written


def parse(arguments=None):
    parser = argparse.ArgumentParser(prog="bench/vectordbbench", description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=str(datasets.default_data()), help="folder of the sets (%(default)s)")
    parser.add_argument("--set", default="glove-50-frequent", help="name of the set (%(default)s)")
    parser.add_argument("--rows", type=int, default=0, help="first rows of it, 0: all")
    parser.add_argument("--queries", type=int, default=1000, help="first queries, 0: all (%(default)s)")
    parser.add_argument("--only", default="client,server", help="client (in process), server (Milvus)")
    parser.add_argument("--indexes", default="", help='some rows of the table, such as "ours;SCANN;HNSW"')
    parser.add_argument("--k", type=int, default=100, help="(%(default)s, as in VectorDBBench)")
    parser.add_argument("--clients", default="1,4", help="numbers of client processes (%(default)s)")
    parser.add_argument("--seconds", type=int, default=10, help="for each number of clients (%(default)s)")
    parser.add_argument("--settings", type=int, default=0, help="1: the middle search setting only")
    parser.add_argument("--removed", type=float, default=0.5, help="share of rows that the filter removes")
    parser.add_argument("--threads", type=int, default=2, help="threads of a build in process (%(default)s)")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds of one task (%(default)s)")
    parser.add_argument("--cache", default=str(datasets.DEFAULT_CACHE), help="folder of cached ground truth")
    parser.add_argument("--out", default=str(datasets.DEFAULT_CACHE / "vectordbbench"), help="folder of the results")
    parser.add_argument("--smoke", action="store_true", help="2,000 words, some minutes: does all of it work?")
    parser.add_argument("--redraw", action="store_true", help="tables and plots of an earlier run")
    parser.add_argument("--client-python", default=sys.executable, help=argparse.SUPPRESS)
    parser.add_argument("--server-python", default="", help=argparse.SUPPRESS)
    parser.add_argument("--milvus-environment", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.smoke:
        vars(options).update(SMOKE, data=str(datasets.REPOSITORY / "tests" / "data"), set="glove-50-frequent")
    unknown = set(options.only.split(",")) - {"client", "server"}
    if unknown or not 0 < options.removed < 1:
        parser.error(f"--only {options.only} (client,server), --removed {options.removed} (between 0 and 1)")
    return options


def main() -> int:
    options = parse()
    # An exception like any other, so that servers and tasks are ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    stem = Path(options.out) / f"vectordbbench-{options.set}{'-smoke' if options.smoke else ''}"
    failures: list[dict] = []
    if not options.redraw:
        comparison = Comparison(options)
        comparison.run()
        failures = comparison.failures
        Path(f"{stem}.jsonl").unlink(missing_ok=True)
        report.append(f"{stem}.jsonl", comparison.points + failures)
    for path in draw(stem):
        print(path)
    print(Path(f"{stem}.md").read_text(encoding="utf-8"))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
