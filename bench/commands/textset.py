"""Makes the set gcide-384: sentence embeddings of a dictionary and of quotations.

Entries are the rows, quotations the queries: two kinds of text, as a document
store and a person's questions are. bench/textset installs the texts and the
model, and calls this.

In:  folder of the model (tokenizer.json, model.safetensors), the texts.
Out, in --out: gcide-384.base.npy (entries) and gcide-384.query.npy (quotations),
     float32 rows of unit length, shuffled.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from bench.datasets import Floats
from bench.folders import RESULTS, Unavailable
from bench.options import OutOptions, SeedOptions, another_default, option

TOKENS = 64  # texts are cut here
HEADS, LAYERS, WIDTH = 12, 6, 384
BATCH = 64


@dataclass(frozen=True)
class Options(SeedOptions, OutOptions):
    out: Path = another_default(OutOptions, "out", RESULTS / "sets")
    model: Path = option(Path("model"), "folder of all-MiniLM-L6-v2")
    dictionary: Path = option(Path("/usr/share/dictd/gcide.dict.dz"), "of Debian's dict-gcide")
    fortunes: Path = option(Path("/usr/share/games/fortunes"), "folder of Debian's fortunes")
    entries: int = option(60_000, "rows", low=1)
    quotations: int = option(4_000, "queries", low=1)


class MiniLM:
    """BERT with 6 layers of width 384 (Wang et al., arXiv 2002.10957), mean of the tokens."""

    def __init__(self, folder: Path):
        self.weights: dict[str, Floats] = load_file(folder / "model.safetensors")
        self.tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(TOKENS)

    def linear(self, x: Floats, name: str) -> Floats:
        # one product of all rows: three times as fast as one for each text
        rows = x.reshape(-1, x.shape[-1]) @ self.weights[f"{name}.weight"].T
        found: Floats = (rows + self.weights[f"{name}.bias"]).reshape(*x.shape[:-1], -1)
        return found

    def norm(self, x: Floats, name: str) -> Floats:
        x = x - x.mean(-1, keepdims=True)
        x /= np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12)
        found: Floats = x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]
        return found

    def attention(self, x: Floats, name: str) -> Floats:
        n, length, width = x.shape

        def heads(part: str) -> Floats:
            y = self.linear(x, f"{name}.self.{part}")
            return y.reshape(n, length, HEADS, width // HEADS).transpose(0, 2, 1, 3)

        scores: Floats = heads("query") @ heads("key").transpose(0, 1, 3, 2) / np.float32(np.sqrt(width // HEADS))
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        seen: Floats = (scores @ heads("value")).transpose(0, 2, 1, 3).reshape(n, length, width)
        return self.linear(seen, f"{name}.output.dense")

    def layer(self, x: Floats, name: str) -> Floats:
        x = self.norm(x + self.attention(x, f"{name}.attention"), f"{name}.attention.output.LayerNorm")
        inner = self.linear(x, f"{name}.intermediate.dense")
        # GELU by tanh: within 1e-3 of the exact one
        inner *= 0.5 * (1 + np.tanh(np.float32(0.7978845608) * (inner + np.float32(0.044715) * inner * inner * inner)))
        return self.norm(x + self.linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def embed_batch(self, ids: Any) -> Floats:
        """Texts of one length in tokens, ids (n, length)."""
        x = self.weights["embeddings.word_embeddings.weight"][ids]
        x = x + self.weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = x + self.weights["embeddings.token_type_embeddings.weight"][0]
        x = self.norm(x, "embeddings.LayerNorm")
        for i in range(LAYERS):
            x = self.layer(x, f"encoder.layer.{i}")
        mean = x.mean(1)
        found: Floats = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return found

    def embed(self, texts: Sequence[str]) -> Floats:
        """Rows of unit length, (len(texts), WIDTH)."""
        tokens = [encoded.ids for encoded in self.tokenizer.encode_batch(list(texts))]
        out = np.empty((len(texts), WIDTH), dtype=np.float32)
        by_length: dict[int, list[int]] = {}
        for i, ids in enumerate(tokens):
            by_length.setdefault(len(ids), []).append(i)
        done = 0
        for _, rows in sorted(by_length.items()):
            for begin in range(0, len(rows), BATCH):
                batch = rows[begin : begin + BATCH]
                out[batch] = self.embed_batch(np.array([tokens[i] for i in batch]))
                done += len(batch)
                print(f"\r  {done} of {len(texts)}", end="", file=sys.stderr)
        print(file=sys.stderr)
        return out


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


def run(options: Options) -> None:
    """Embeds both kinds of text."""
    for path in (options.model / "model.safetensors", options.dictionary, options.fortunes):
        if not path.exists():
            raise Unavailable(f"{path} is missing: bench/textset installs it")
    model, rng = MiniLM(options.model), np.random.default_rng(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = {
        "base": (entries(options.dictionary), options.entries),
        "query": (quotations(options.fortunes), options.quotations),
    }
    for name, (texts, count) in wanted.items():
        texts = sorted(set(texts))
        chosen = [texts[i] for i in rng.permutation(len(texts))[:count]]
        rows = model.embed(chosen)
        np.save(options.out / f"gcide-384.{name}.npy", rows)
        print(f"gcide-384.{name}.npy: {len(rows)} rows of {len(texts)} texts")
