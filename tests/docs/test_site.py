"""The site is built without a warning and without a network, and its links lead somewhere.

Needs what docs/build installs: Doxygen, Sphinx, this package (part `docs` of tests/run).
"""

import html.parser
import importlib.util
import pathlib
import re
import shutil
import subprocess
import urllib.parse

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("[0-9]*.py"))
LIMIT = 300  # seconds; a quiet machine needs under 90


class Page(html.parser.HTMLParser):
    """What a page names and what it leads to."""

    def __init__(self, path):
        super().__init__()
        self.names, self.links, self.loaded = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.names |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in ("script", "img", "link") and (given.get("src") or given.get("href")):
            self.loaded.append(given.get("src") or given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for module in ("sphinx", "myst_parser", "furo", "breathe", "sphinx_gallery"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: docs/build installs it")
    if shutil.which("doxygen") is None:
        pytest.skip("Doxygen is not installed: docs/build installs it")
    folder = tmp_path_factory.mktemp("site")
    command = [ROOT / "docs" / "build", "--offline", folder]
    alone = ["unshare", "--map-root-user", "--net"]  # where the kernel lets us
    if subprocess.run([*alone, "true"], capture_output=True).returncode == 0:
        command = [*alone, *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def pages(site):
    made = {path: Page(path) for path in site.rglob("*.html")}
    assert len(made) > 20
    return made


def test_every_document_has_its_page(site, pages):
    texts = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    texts |= {pathlib.Path("tutorials-made") / path.with_suffix(".html").name for path in TUTORIALS}
    assert texts <= {path.relative_to(site) for path in pages}


def test_links_lead_somewhere(site, pages):
    wrong = []
    for path, page in pages.items():
        for link in page.links + page.loaded:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                wrong.append(f"{path.relative_to(site)}: {link}")
            elif parts.fragment and target in pages:
                if urllib.parse.unquote(parts.fragment) not in pages[target].names:
                    wrong.append(f"{path.relative_to(site)}: {link}")
    assert not wrong


def test_pages_load_nothing_from_elsewhere(pages):
    assert not [link for page in pages.values() for link in page.loaded if urllib.parse.urlsplit(link).netloc]


RECORDED = [path for path in TUTORIALS if ".. code-block:: none" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", [path for path in TUTORIALS if path not in RECORDED], ids=lambda path: path.stem)
def test_tutorials_show_what_they_printed(site, path):
    text = (site / "tutorials-made" / f"{path.stem}.html").read_text(encoding="utf-8")
    assert "sphx-glr-script-out" in text and "Traceback" not in text
    if "plt." in path.read_text(encoding="utf-8"):
        assert re.search(r'<img [^>]*src="\.\./_images/sphx_glr_', text)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_needs_a_server_shows_what_a_run_printed(site, path):
    """tests/server/test_examples.py compares it with a run."""
    text = (site / "tutorials-made" / f"{path.stem}.html").read_text(encoding="utf-8")
    assert "sphx-glr-script-out" not in text
    assert text.count('class="highlight-none') == path.read_text(encoding="utf-8").count(".. code-block:: none") > 3


@pytest.mark.parametrize(
    "name",
    ["faiss_ext.Index.search", "faiss_ext.index_factory", "faiss_ext.knowhere.IndexFactory", "IndexIVFScaNN"],
)
def test_both_interfaces_are_described(pages, name):
    assert any(name in found for page in pages.values() for found in page.names), name
