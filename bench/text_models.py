"""Sentence embeddings with NumPy: all-MiniLM-L6-v2 and all-mpnet-base-v2, both BERT's layers.

In:  a folder with tokenizer.json and model.safetensors; texts.
Out: token ids a text; unit rows (n, width), the mean of a text's tokens, of texts
     of one length in tokens, so that nothing is padded and no text's row depends
     on the others. Next: embedding.py takes the texts through in pieces.

MiniLM: Wang et al., arXiv 2002.10957. MPNet: Song et al., arXiv 2004.09297; it
differs from BERT in names, in where its positions begin, and in a term for the
distance of two tokens, which is added to the scores of every layer.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.datasets import Floats, Ids
from bench.folders import Unavailable

HEADS = 12
FARTHEST = 128  # tokens: distances from here on share a bucket
BLOCK = 1 << 16  # numbers that GELU takes at once: they stay in the second-level cache


@dataclass(frozen=True)
class Kind:
    """What two models of this family differ in beside their sizes."""

    query: str
    key: str
    value: str
    output: str
    norm: str
    first_position: int
    epsilon: float  # of the norms


BERT = Kind(
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    output="attention.output.dense",
    norm="attention.output.LayerNorm",
    first_position=0,
    epsilon=1e-12,
)
MPNET = Kind(
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    output="attention.attn.o",
    norm="attention.LayerNorm",
    first_position=2,
    epsilon=1e-5,
)


@dataclass(frozen=True)
class Linear:
    weight: Floats  # (outputs, inputs)
    bias: Floats  # (outputs,)

    def __call__(self, x: Floats) -> Floats:
        """x (rows, inputs) -> (rows, outputs)."""
        y: Floats = x @ self.weight.T
        y += self.bias
        return y


@dataclass(frozen=True)
class Norm:
    weight: Floats  # (width,)
    bias: Floats  # (width,)
    epsilon: float

    def __call__(self, x: Floats) -> Floats:
        """x (rows, width), changed in place."""
        x -= x.mean(-1, keepdims=True)
        x /= np.sqrt(np.einsum("ij,ij->i", x, x)[:, None] / np.float32(x.shape[1]) + np.float32(self.epsilon))
        x *= self.weight
        x += self.bias
        return x


@dataclass(frozen=True)
class Layer:
    heads: Linear  # queries, keys and values of all heads, one product: (3 width, width)
    seen: Linear
    seen_norm: Norm
    inner: Linear
    outer: Linear
    norm: Norm


def gelu(x: Floats) -> Floats:
    """GELU in place, by tanh: within 1e-3 of the exact one."""
    flat = x.reshape(-1)
    for begin in range(0, len(flat), BLOCK):
        y = flat[begin : begin + BLOCK]
        z = y * y
        z *= np.float32(0.044715 * 0.7978845608)
        z += np.float32(0.7978845608)
        z *= y
        np.tanh(z, out=z)
        z += 1
        z *= np.float32(0.5)
        y *= z
    return x


def distance_buckets(length: int, buckets: int) -> Ids:
    """(length, length): the bucket of token j as token i sees it.

    Half of the buckets are for what stands behind i; of each half the first half
    is a distance each, the others grow by the logarithm up to FARTHEST.
    """
    half, exact = buckets // 2, buckets // 4
    i, j = np.ogrid[:length, :length]
    distance = abs(j - i)
    far = np.log(np.maximum(distance, exact) / exact) / np.log(FARTHEST / exact) * (half - exact)
    found: Ids = np.where(distance < exact, distance, np.minimum(exact + far.astype(np.int64), half - 1))
    return found + half * (j > i)


class TextModel:
    """A transformer as `weights` say, whose names are those of its safetensors file."""

    def __init__(self, weights: Mapping[str, Floats], kind: Kind):
        def norm(name: str) -> Norm:
            return Norm(weights[f"{name}.weight"], weights[f"{name}.bias"], kind.epsilon)

        def linear(*names: str, scales: Sequence[float] = (1, 1, 1)) -> Linear:
            def joined(part: str) -> Floats:
                of_names = [weights[f"{name}.{part}"] * np.float32(s) for name, s in zip(names, scales)]
                return np.concatenate(of_names)

            return Linear(joined("weight"), joined("bias"))

        self.tokens: Floats = weights["embeddings.word_embeddings.weight"]
        self.width = self.tokens.shape[1]
        self.positions: Floats = weights["embeddings.position_embeddings.weight"][kind.first_position :]
        if "embeddings.token_type_embeddings.weight" in weights:
            self.positions = self.positions + weights["embeddings.token_type_embeddings.weight"][0]
        self.distance_terms = weights.get("encoder.relative_attention_bias.weight")  # (buckets, HEADS)
        self.norm = norm("embeddings.LayerNorm")
        self.layers: list[Layer] = []
        root = (self.width // HEADS) ** -0.5  # of the scores, in the queries already
        while f"encoder.layer.{len(self.layers)}.{kind.query}.weight" in weights:
            name = f"encoder.layer.{len(self.layers)}"
            self.layers.append(
                Layer(
                    heads=linear(*(f"{name}.{p}" for p in (kind.query, kind.key, kind.value)), scales=(root, 1, 1)),
                    seen=linear(f"{name}.{kind.output}"),
                    seen_norm=norm(f"{name}.{kind.norm}"),
                    inner=linear(f"{name}.intermediate.dense"),
                    outer=linear(f"{name}.output.dense"),
                    norm=norm(f"{name}.output.LayerNorm"),
                )
            )

    def distance_scores(self, length: int) -> Floats | None:
        """(HEADS, length, length) for the scores of every layer."""
        if self.distance_terms is None:
            return None
        buckets = distance_buckets(length, len(self.distance_terms))
        return np.ascontiguousarray(self.distance_terms[buckets].transpose(2, 0, 1))

    def attention(self, x: Floats, n: int, layer: Layer, distances: Floats | None) -> Floats:
        """x (n x length, width) of n texts."""
        length = len(x) // n
        parts = layer.heads(x).reshape(n, length, 3, HEADS, -1)
        query, key, value = parts.transpose(2, 0, 3, 1, 4)  # (n, HEADS, length, width / HEADS)
        scores: Floats = query @ key.transpose(0, 1, 3, 2)
        if distances is not None:
            scores += distances
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(-1, keepdims=True)
        return layer.seen((scores @ value).transpose(0, 2, 1, 3).reshape(x.shape))

    def embed(self, ids: NDArray[np.integer[Any]]) -> Floats:
        """Token ids (n, length) of texts of one length -> unit rows (n, width)."""
        n, length = ids.shape
        x = self.norm((self.tokens[ids] + self.positions[:length]).reshape(n * length, self.width))
        distances = self.distance_scores(length)
        for layer in self.layers:
            x += self.attention(x, n, layer, distances)
            x = layer.seen_norm(x)
            x += layer.outer(gelu(layer.inner(x)))
            x = layer.norm(x)
        mean = x.reshape(n, length, self.width).mean(1)
        found: Floats = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return found


def read_model(folder: Path, kind: Kind) -> TextModel:
    """The model of a folder."""
    weights: dict[str, Floats] = _module("safetensors.numpy").load_file(folder / "model.safetensors")
    return TextModel(weights, kind)


def token_ids(folder: Path, texts: Sequence[str], most: int) -> list[list[int]]:
    """Ids of each text with the model's signs of beginning and end, at most `most`."""
    tokenizer = _module("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(most)
    return [encoded.ids for encoded in tokenizer.encode_batch(list(texts))]


def _module(name: str) -> Any:
    """A module of the environment that bench/textset sets up."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise Unavailable(f"{name} is not installed: bench/textset sets it up") from None
