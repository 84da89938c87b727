"""Sentence embeddings of Debian's dictionary and quotations; see bench/textset.

In:  folder of the model (tokenizer.json, model.safetensors), output folder.
Out: gcide-384.base.npy (entries) and gcide-384.query.npy (quotations), float32
     rows of unit length, shuffled.
"""

from __future__ import annotations

import gzip
import re
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

ENTRIES, QUOTATIONS = 60_000, 4_000
TOKENS = 64  # texts are cut here
HEADS, LAYERS = 12, 6
BATCH = 64


class MiniLM:
    """BERT with 6 layers of width 384 (Wang et al., arXiv 2002.10957), mean of the tokens."""

    def __init__(self, folder: Path):
        self.weights = load_file(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(TOKENS)

    def linear(self, x, name: str):
        # one product of all rows: three times as fast as one for each text
        rows = x.reshape(-1, x.shape[-1]) @ self.weights[f"{name}.weight"].T
        return (rows + self.weights[f"{name}.bias"]).reshape(*x.shape[:-1], -1)

    def norm(self, x, name: str):
        x = x - x.mean(-1, keepdims=True)
        x /= np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12)
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def layer(self, x, name: str):
        n, length, width = x.shape

        def heads(part: str):
            y = self.linear(x, f"{name}.attention.self.{part}")
            return y.reshape(n, length, HEADS, width // HEADS).transpose(0, 2, 1, 3)

        scores = heads("query") @ heads("key").transpose(0, 1, 3, 2) / np.float32(np.sqrt(width // HEADS))
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        seen = (scores @ heads("value")).transpose(0, 2, 1, 3).reshape(n, length, width)
        x = self.norm(x + self.linear(seen, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        inner = self.linear(x, f"{name}.intermediate.dense")
        # GELU by tanh: within 1e-3 of the exact one
        inner *= 0.5 * (1 + np.tanh(np.float32(0.7978845608) * (inner + np.float32(0.044715) * inner * inner * inner)))
        return self.norm(x + self.linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def embed(self, texts: list[str]) -> np.ndarray:
        """Rows of unit length, (len(texts), 384) float32."""
        tokens = [encoded.ids for encoded in self.tokenizer.encode_batch(texts)]
        out = np.empty((len(texts), 384), dtype=np.float32)
        by_length: dict[int, list[int]] = {}
        for i, ids in enumerate(tokens):
            by_length.setdefault(len(ids), []).append(i)
        done = 0
        for length, rows in sorted(by_length.items()):
            for begin in range(0, len(rows), BATCH):
                batch = rows[begin : begin + BATCH]
                ids = np.array([tokens[i] for i in batch])
                x = self.weights["embeddings.word_embeddings.weight"][ids]
                x = x + self.weights["embeddings.position_embeddings.weight"][:length]
                x = x + self.weights["embeddings.token_type_embeddings.weight"][0]
                x = self.norm(x, "embeddings.LayerNorm")
                for i in range(LAYERS):
                    x = self.layer(x, f"encoder.layer.{i}")
                mean = x.mean(1)
                out[batch] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
                done += len(batch)
                print(f"\r  {done} of {len(texts)}", end="", file=sys.stderr)
        print(file=sys.stderr)
        return out


def entries() -> list[str]:
    """Texts of the dictionary: a headword and its definition."""
    with gzip.open("/usr/share/dictd/gcide.dict.dz", "rt", encoding="utf-8", errors="replace") as file:
        whole = file.read()
    found = []
    # an entry begins at the margin, what belongs to it is indented
    for block in re.split(r"\n(?=\S)", whole):
        text = re.sub(r"\\[^\\]*\\|\[[^\]]*\]|--\w+\.", " ", block)
        text = re.sub(r"\s+", " ", text).strip()
        if len(text) >= 30 and not text.startswith("00-database"):
            found.append(text)
    return found


def quotations() -> list[str]:
    """Texts of the fortunes."""
    found = []
    for path in sorted(Path("/usr/share/games/fortunes").iterdir()):
        if path.suffix or path.name == "ascii-art" or path.is_symlink():
            continue
        for text in path.read_text(encoding="utf-8", errors="replace").split("\n%\n"):
            text = re.sub(r"\s+", " ", text).strip()
            if 30 <= len(text) <= 400:
                found.append(text)
    return found


def main() -> None:
    model, folder = MiniLM(Path(sys.argv[1])), Path(sys.argv[2])
    rng = np.random.default_rng(1)
    for name, texts, wanted in (("base", entries(), ENTRIES), ("query", quotations(), QUOTATIONS)):
        texts = sorted(set(texts))
        chosen = [texts[i] for i in rng.permutation(len(texts))[:wanted]]
        rows = model.embed(chosen)
        np.save(folder / f"gcide-384.{name}.npy", rows)
        print(f"gcide-384.{name}.npy: {len(rows)} rows of {len(texts)} texts")


if __name__ == "__main__":
    main()
