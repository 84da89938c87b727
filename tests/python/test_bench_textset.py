"""bench/textset: texts of Debian packages -> token ids -> rows; on models and texts made here, without a network."""

import math
import pathlib
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench import cli, datasets, embedding, text_models, texts  # noqa: E402
from bench.commands import textset  # noqa: E402

WORDS, WIDTH, LAYERS, POSITIONS, BUCKETS = 50, 24, 2, 40, 32
KINDS = {"minilm": text_models.BERT, "mpnet": text_models.MPNET}

# ------------------------------------------------------------------- models


def weights(name, seed=0):
    """Names and shapes of the model's file, at random."""
    rng = np.random.default_rng(seed)
    kind = KINDS[name]
    found = {}

    def add(name, *shape):
        found[name] = rng.standard_normal(shape).astype(np.float32)

    def linear(name, outputs, inputs):
        add(f"{name}.weight", outputs, inputs)
        add(f"{name}.bias", outputs)

    add("embeddings.word_embeddings.weight", WORDS, WIDTH)
    add("embeddings.position_embeddings.weight", POSITIONS, WIDTH)
    if name == "minilm":
        add("embeddings.token_type_embeddings.weight", 2, WIDTH)
    else:
        add("encoder.relative_attention_bias.weight", BUCKETS, text_models.HEADS)
    norms = ["embeddings.LayerNorm"]
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        for part in (kind.query, kind.key, kind.value, kind.output):
            linear(f"{layer}.{part}", WIDTH, WIDTH)
        linear(f"{layer}.intermediate.dense", 4 * WIDTH, WIDTH)
        linear(f"{layer}.output.dense", WIDTH, 4 * WIDTH)
        norms += [f"{layer}.{kind.norm}", f"{layer}.output.LayerNorm"]
    for norm in norms:
        add(f"{norm}.weight", WIDTH)
        add(f"{norm}.bias", WIDTH)
    return found


def bucket(distance):
    """The bucket of a token `distance` behind: as Hugging Face's MPNet says it."""
    found = BUCKETS // 2 if distance > 0 else 0
    far = abs(distance)
    if far < 8:
        return found + far
    return found + min(15, 8 + int(math.log(far / 8) / math.log(128 / 8) * 8))


def expected_row(name, w, ids):
    """A text's row, a token and a head at a time, in double precision."""
    kind = KINDS[name]
    w = {key: value.astype(np.float64) for key, value in w.items()}

    def linear(x, part):
        return w[f"{part}.weight"] @ x + w[f"{part}.bias"]

    def norm(x, part):
        x = x - x.mean()
        return x / math.sqrt((x * x).mean() + kind.epsilon) * w[f"{part}.weight"] + w[f"{part}.bias"]

    def gelu(x):
        return x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    first = 2 if name == "mpnet" else 0
    words, positions = w["embeddings.word_embeddings.weight"], w["embeddings.position_embeddings.weight"]
    xs = [words[id] + positions[first + i] for i, id in enumerate(ids)]
    if name == "minilm":
        xs = [x + w["embeddings.token_type_embeddings.weight"][0] for x in xs]
    xs = [norm(x, "embeddings.LayerNorm") for x in xs]
    wide = WIDTH // text_models.HEADS
    for layer in (f"encoder.layer.{i}" for i in range(LAYERS)):
        query, key, value = ([linear(x, f"{layer}.{part}") for x in xs] for part in (kind.query, kind.key, kind.value))
        seen = np.zeros((len(xs), WIDTH))
        for i in range(len(xs)):
            for head in range(text_models.HEADS):
                part = slice(head * wide, (head + 1) * wide)
                scores = np.array([query[i][part] @ k[part] / math.sqrt(wide) for k in key])
                if name == "mpnet":
                    terms = w["encoder.relative_attention_bias.weight"][:, head]
                    scores += [terms[bucket(j - i)] for j in range(len(xs))]
                shares = np.exp(scores - scores.max())
                seen[i, part] = shares / shares.sum() @ np.array([v[part] for v in value])
        xs = [norm(x + linear(s, f"{layer}.{kind.output}"), f"{layer}.{kind.norm}") for x, s in zip(xs, seen)]
        inner = [gelu(linear(x, f"{layer}.intermediate.dense")) for x in xs]
        xs = [norm(x + linear(y, f"{layer}.output.dense"), f"{layer}.output.LayerNorm") for x, y in zip(xs, inner)]
    mean = np.mean(xs, axis=0)
    return mean / np.linalg.norm(mean)


@pytest.fixture(params=KINDS)
def name(request):
    return request.param


def test_rows_are_those_of_the_definition(name):
    w = weights(name)
    model = text_models.TextModel(w, KINDS[name])
    ids = np.random.default_rng(1).integers(WORDS, size=(3, 30))
    rows = model.embed(ids)
    assert rows.shape == (3, WIDTH) and rows.dtype == np.float32 and len(model.layers) == LAYERS
    np.testing.assert_allclose(rows, [expected_row(name, w, row) for row in ids], atol=2e-5)


def test_rows_have_unit_length_and_do_not_depend_on_other_texts(name):
    model = text_models.TextModel(weights(name), KINDS[name])
    for length in (1, 2, 17):
        ids = np.random.default_rng(length).integers(WORDS, size=(9, length))
        rows = model.embed(ids)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(rows[4:5], model.embed(ids[4:5]), atol=1e-5)


def test_a_model_leaves_its_weights_as_they_are(name):
    w = weights(name)
    before = {key: value.copy() for key, value in w.items()}
    text_models.TextModel(w, KINDS[name]).embed(np.ones((2, 5), dtype=np.int64))
    for key, value in before.items():
        np.testing.assert_array_equal(w[key], value)


def test_buckets_are_those_of_the_formula():
    found = text_models.distance_buckets(200, BUCKETS)
    assert found.tolist() == [[bucket(j - i) for j in range(200)] for i in range(200)]
    assert found[0, 199] == 31 and found[199, 0] == 15 and found[3, 3] == 0


def test_gelu_is_near_the_exact_one():
    x = np.linspace(-8, 8, 3 * text_models.BLOCK // 2, dtype=np.float32)
    exact = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x[::97].tolist()]
    np.testing.assert_allclose(text_models.gelu(x.copy())[::97], exact, atol=1e-3)


# -------------------------------------------------------------------- texts

LICENCE = "  1 This software and database is being provided to you\n"
SYNSETS = {
    "data.noun": [
        "00001740 03 n 02 physical_entity 0 thing 1 001 ~ 00001930 n 0000 | that exists; ",
        '00002000 04 n 01 stride 0 000 | progress (in the phrase "make strides"); "they made big strides"; "so, so"  ',
    ],
    "data.verb": [
        '00000010 29 v 01 refocus 0 000 01 + 08 00 | focus again; The physicist refocused"  ',
        '00000020 29 v 01 strew 0 000 01 + 08 00 | spread; "strew toys"; "dirty"; all over the carpet"  ',
    ],
    "data.adj": [
        "00000030 00 a 0b " + " ".join(f"w{i}(p) 0" for i in range(11)) + ' 000 | many: "as they are"; "dull"  '
    ],
    "data.adv": [
        "00000040 02 r 01 a_la(ip) 0 000 | in the manner of  ",
        "00000050 02 r 01 a_la 0 000 | in the manner of  ",
    ],
}


@pytest.fixture
def wordnet(tmp_path):
    folder = tmp_path / "wordnet"
    folder.mkdir()
    for file, lines in SYNSETS.items():
        (folder / file).write_text(LICENCE + "".join(f"{line}\n" for line in lines))
    return folder


def test_synsets_are_words_and_definition(wordnet):
    assert texts.synsets(wordnet) == [
        "physical entity, thing: that exists",
        'stride: progress (in the phrase "make strides")',
        'refocus: focus again; The physicist refocused"',
        "strew: spread",
        ", ".join(f"w{i}" for i in range(11)) + ": many",
        "a la: in the manner of",
        "a la: in the manner of",
    ]


def test_examples_are_sentences_of_whole_marks(wordnet):
    assert texts.example_sentences(wordnet) == ["they made big strides", "so, so", "as they are"]


def test_texts_are_drawn_once_each_by_the_seed():
    found = [f"text {i % 50}" for i in range(100)]
    one, same, other = (textset.drawn(found, None, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one == same != other and sorted(one) == sorted(other) == sorted(set(found))
    assert textset.drawn(found, 7, np.random.default_rng(1)) == one[:7]


# ------------------------------------------------------------------- pieces


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(embedding, "PIECE", 10)
    monkeypatch.setattr(embedding, "BATCH", 12)


@pytest.fixture
def tokens():
    rng = np.random.default_rng(3)
    return [rng.integers(WORDS, size=length).tolist() for length in rng.integers(1, 30, size=64)]


def rows_of(folder, tokens, embed, mark="a", dtype="float16"):
    return embedding.Pieces(folder, mark).rows("base", tokens, embed, dtype, embedding.Progress.of(tokens))


def test_rows_stand_where_their_texts_do(small_pieces, tokens, tmp_path, capsys):
    model = text_models.TextModel(weights("mpnet"), text_models.MPNET)
    rows = rows_of(tmp_path / "p", tokens, model.embed, dtype="float32")
    alone = np.concatenate([model.embed(np.array([ids])) for ids in tokens])
    np.testing.assert_allclose(rows, alone, atol=1e-5)
    assert len(list((tmp_path / "p").glob("base-*.npy"))) == 7
    said = capsys.readouterr().err
    assert "10 of 64 texts, " in said and "64 of 64 texts, 100 % of the tokens, 0 min left" in said


def test_batches_are_of_one_length_and_bounded(small_pieces, tokens):
    order = np.argsort([len(ids) for ids in tokens], kind="stable")
    found = list(embedding.batches(tokens, order))
    assert np.concatenate(found).tolist() == order.tolist()
    for batch in found:
        [length] = {len(tokens[i]) for i in batch}
        assert len(batch) == 1 or length * len(batch) <= 12


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(small_pieces, tokens, tmp_path):
    model = text_models.TextModel(weights("mpnet"), text_models.MPNET)
    whole = rows_of(tmp_path / "whole", tokens, model.embed)
    calls = []

    def stopped(ids):
        calls.append(len(ids))
        if len(calls) == 20:
            raise KeyboardInterrupt
        return model.embed(ids)

    with pytest.raises(KeyboardInterrupt):
        rows_of(tmp_path / "p", tokens, stopped)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "p").iterdir()}
    assert 2 <= len(kept) < 8 and not list((tmp_path / "p").glob("*.part"))
    assert rows_of(tmp_path / "p", tokens, model.embed).tobytes() == whole.tobytes()
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())


def test_pieces_of_something_else_are_refused(tmp_path):
    embedding.Pieces(tmp_path / "p", "a")
    embedding.Pieces(tmp_path / "p", "a")
    with pytest.raises(ValueError, match="of other texts, another model or seed"):
        embedding.Pieces(tmp_path / "p", "b")


def test_the_fingerprint_sees_every_change(tmp_path):
    file = tmp_path / "model"
    file.write_bytes(b"1")
    cases = [("float16", [[1, 2]], [[3]]), ("float32", [[1, 2]], [[3]]), ("float16", [[1], [2]], [[3]])]
    cases += [("float16", [[1, 2], [3]], []), ("float16", [[2, 1]], [[3]]), ("float16", [[1, 2]], [[4]])]
    found = [embedding.fingerprint(file, *case) for case in cases]
    file.write_bytes(b"2")
    found.append(embedding.fingerprint(file, *cases[0]))
    assert len(set(found)) == len(cases) + 1


def test_what_is_left_counts_only_what_this_run_has_made(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(embedding.time, "monotonic", lambda: clock[0])
    progress = embedding.Progress(1000, 10, started=100.0)
    progress.add([[0] * 400], found=True)
    clock[0] = 160.0
    progress.add([[0] * 100], found=False)
    assert progress.line() == "2 of 10 texts, 50 % of the tokens, 5 min left"


# ------------------------------------------------------------------ command


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A folder of weights; token ids are of letters."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(
        text_models, "token_ids", lambda folder, texts, most: [[ord(c) % WORDS for c in t][:most] for t in texts]
    )
    monkeypatch.setattr(text_models, "read_model", lambda folder, kind: text_models.TextModel(weights("mpnet"), kind))
    monkeypatch.setattr(textset.texts, "synsets", lambda folder: [f"{i}: {'x' * (i % 9)}" for i in range(60)])
    return folder


def command(model, wordnet, out, *more):
    known = ["textset", "--model", "mpnet", "--weights", str(model), "--wordnet", str(wordnet), "--out", str(out)]
    return cli.main([*known, *more])


def test_the_set_is_made_and_found(model, wordnet, tmp_path, capsys):
    out = tmp_path / "out"
    assert command(model, wordnet, out) == 0
    made = datasets.load(out, "wordnet-768")
    assert made.base.shape == (60, WIDTH) and made.query.shape == (3, WIDTH) and made.metric == "ip"
    assert np.load(out / "wordnet-768.base.npy").dtype == np.float16
    assert {path.name for path in out.iterdir()} == {
        "wordnet-768.base.npy",
        "wordnet-768.query.npy",
        "wordnet-768.fingerprint",
    }
    before = (out / "wordnet-768.base.npy").read_bytes()
    capsys.readouterr()
    assert command(model, wordnet, out) == 0 and "already" in capsys.readouterr().out
    assert command(model, wordnet, out, "--seed", "2", "--rows", "40") == 0
    assert len(datasets.load(out, "wordnet-768").base) == 40 and "already" not in capsys.readouterr().out
    assert command(model, wordnet, out) == 0
    assert (out / "wordnet-768.base.npy").read_bytes() == before


def test_what_is_missing_is_named(model, wordnet, tmp_path, capsys):
    (wordnet / "data.adv").unlink()
    assert command(model, wordnet, tmp_path / "out") == 2
    assert "data.adv is missing: bench/textset installs it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_without_its_libraries_a_model_is_not_read(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(textset.Unavailable, match="tokenizers is not installed"):
        text_models.token_ids(tmp_path, ["x"], 8)
