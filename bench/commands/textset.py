"""Makes sets of sentence embeddings, whose rows and queries are two kinds of text.

As a document store and a person's questions are. bench/textset installs the
texts and the model, and calls this.

minilm: gcide-384, entries of a dictionary as rows, quotations as queries.
mpnet:  wordnet-768, the synsets of WordNet as rows, its example sentences as queries.

In:  folder of the model (tokenizer.json, model.safetensors), the texts.
Out, in --out: SET.base.npy and SET.query.npy, rows of unit length, shuffled;
     before them SET.pieces/, where a run that was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import text_models, texts
from bench.embedding import Pieces, Progress, Tokens, fingerprint
from bench.folders import RESULTS, Unavailable, written_whole
from bench.options import OutOptions, SeedOptions, another_default, option
from bench.text_models import Kind


@dataclass(frozen=True)
class Options(SeedOptions, OutOptions):
    out: Path = another_default(OutOptions, "out", RESULTS / "sets")
    model: str = option("minilm", "all-MiniLM-L6-v2 or all-mpnet-base-v2", choices=("minilm", "mpnet"))
    weights: Path = option(Path("model"), "folder of the model", folder=True)
    dictionary: Path = option(Path("/usr/share/dictd/gcide.dict.dz"), "of Debian's dict-gcide")
    fortunes: Path = option(Path("/usr/share/games/fortunes"), "folder of Debian's fortunes")
    wordnet: Path = option(Path("/usr/share/wordnet"), "folder of Debian's wordnet-base")
    rows: int = option(0, "most rows, 0: 60,000 of gcide-384, all of wordnet-768", low=0)
    queries: int = option(0, "most queries, 0: 4,000 of gcide-384, 10,000 of wordnet-768", low=0)


@dataclass(frozen=True)
class TextSet:
    """A set and the model that makes it."""

    name: str
    kind: Kind
    tokens: int  # texts are cut here
    dtype: str
    rows: int | None  # None: all
    queries: int
    sources: Callable[[Options], list[Path]]
    base: Callable[[Options], list[str]]
    query: Callable[[Options], list[str]]


SETS = {
    "minilm": TextSet(
        name="gcide-384",
        kind=text_models.BERT,
        tokens=64,
        dtype="float32",
        rows=60_000,
        queries=4_000,
        sources=lambda options: [options.dictionary, options.fortunes],
        base=lambda options: texts.entries(options.dictionary),
        query=lambda options: texts.quotations(options.fortunes),
    ),
    "mpnet": TextSet(
        name="wordnet-768",
        kind=text_models.MPNET,
        tokens=96,
        dtype="float16",
        rows=None,
        queries=10_000,
        sources=lambda options: [options.wordnet / name for name in texts.WORDNET_FILES],
        base=lambda options: texts.synsets(options.wordnet),
        query=lambda options: texts.example_sentences(options.wordnet),
    ),
}


def drawn(found: list[str], count: int | None, rng: np.random.Generator) -> list[str]:
    """At most `count` of the texts, each once, in random order."""
    distinct = sorted(set(found))
    return [distinct[i] for i in rng.permutation(len(distinct))[:count]]


def run(options: Options) -> None:
    """Embeds both kinds of text."""
    wanted = SETS[options.model]
    for path in (options.weights / "model.safetensors", *wanted.sources(options)):
        if not path.exists():
            raise Unavailable(f"{path} is missing: bench/textset installs it")
    rng = np.random.default_rng(options.seed)
    chosen = {
        "base": drawn(wanted.base(options), options.rows or wanted.rows, rng),
        "query": drawn(wanted.query(options), options.queries or wanted.queries, rng),
    }
    tokens = {part: text_models.token_ids(options.weights, of_part, wanted.tokens) for part, of_part in chosen.items()}
    paths = {part: options.out / f"{wanted.name}.{part}.npy" for part in tokens}
    mark = fingerprint(options.weights / "model.safetensors", wanted.dtype, *tokens.values())
    made = options.out / f"{wanted.name}.fingerprint"  # of the files that are there
    if made.exists() and made.read_text() == mark and all(path.exists() for path in paths.values()):
        print(f"{wanted.name} is in {options.out} already")
        return
    pieces = Pieces(options.out / f"{wanted.name}.pieces", mark)
    made.unlink(missing_ok=True)
    write(pieces, tokens, paths, options)
    with written_whole(made) as file:
        file.write(mark.encode())
    pieces.remove()


def write(pieces: Pieces, tokens: Mapping[str, Tokens], paths: dict[str, Path], options: Options) -> None:
    """The files of the set."""
    wanted = SETS[options.model]
    model = text_models.read_model(options.weights, wanted.kind)
    progress = Progress.of(*tokens.values())
    for part, path in paths.items():
        rows = pieces.rows(part, tokens[part], model.embed, wanted.dtype, progress)
        with written_whole(path) as file:
            np.save(file, rows)
        print(f"{path}: {len(rows):,} rows of {rows.shape[1]}")
