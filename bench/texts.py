"""Texts of Debian packages, for sets of sentence embeddings.

In:  the dictionary GCIDE (dict-gcide), fortunes (fortunes, fortunes-min),
     WordNet 3.0 (wordnet-base).
Out: texts in the order of the files, some of them twice. Next: commands/textset.py
     draws from them.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

WORDNET_FILES = ("data.noun", "data.verb", "data.adj", "data.adv")


def entries(dictionary: Path) -> list[str]:
    """Texts of the dictionary: a headword and its definition."""
    with gzip.open(dictionary, "rt", encoding="utf-8", errors="replace") as file:
        whole = file.read()
    found = []
    # an entry begins at the margin, what belongs to it is indented
    for block in re.split(r"\n(?=\S)", whole):
        text = re.sub(r"\\[^\\]*\\|\[[^\]]*\]|--\w+\.", " ", block)
        text = re.sub(r"\s+", " ", text).strip()
        if len(text) >= 30 and not text.startswith("00-database"):
            found.append(text)
    return found


def quotations(fortunes: Path) -> list[str]:
    """Texts of the fortunes."""
    found = []
    for path in sorted(fortunes.iterdir()):
        if path.suffix or path.name == "ascii-art" or path.is_symlink():
            continue
        for text in path.read_text(encoding="utf-8", errors="replace").split("\n%\n"):
            text = re.sub(r"\s+", " ", text).strip()
            if 30 <= len(text) <= 400:
                found.append(text)
    return found


def _wordnet_lines(folder: Path) -> Iterator[tuple[list[str], str, str]]:
    """Each synset's words, definition and examples (as they stand there, in quotation marks)."""
    for name in WORDNET_FILES:
        for line in (folder / name).read_text(encoding="utf-8").splitlines():
            if line.startswith("  "):  # the licence
                continue
            head, _, gloss = line.partition(" | ")
            fields = head.split()
            words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]  # each with a number behind it
            # an adjective may say where it stands: "(a)" before a noun, "(p)" behind a verb, "(ip)" behind a noun
            plain = [re.sub(r"\((?:a|p|ip)\)$", "", word).replace("_", " ") for word in words]
            definition, *examples = re.split(r'[;:,]\s*(?=")', gloss.strip(), maxsplit=1)
            yield plain, definition.strip(" ;:,"), "".join(examples)


def synsets(folder: Path) -> list[str]:
    """Texts of WordNet's synsets: the words and their definition, without examples."""
    return [f"{', '.join(words)}: {definition}" for words, definition, _ in _wordnet_lines(folder)]


def example_sentences(folder: Path) -> list[str]:
    """WordNet's examples of at least two words."""
    found = []
    for _, _, examples in _wordnet_lines(folder):
        if examples.count('"') % 2 == 0:  # of a few a mark is missing
            found += [text.strip() for text in re.findall(r'"([^"]*)"', examples)]
    return [text for text in found if " " in text]
