"""Vectors from a sentence embedding model that lies on this machine, as sentence-transformers and fastembed keep them.

Comes in: the path of a folder with the network as ONNX and `tokenizer.json`, and texts. Goes out: a vector for each.
Nothing is ever downloaded: a name of a model that is no folder here is refused. Needs the extra ``embeddings``
(onnxruntime, tokenizers).
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from memguard.errors import DataError, MissingExtra

__all__ = ["ModelEmbedder"]

# Where sentence-transformers and fastembed put the network, in the order in which they are looked for.
_NETWORKS: Final = ("onnx/model.onnx", "model.onnx", "model_optimized.onnx", "onnx/model_quantized.onnx")
_LONGEST: Final = 256
_READ_BYTES: Final = 1 << 20
# Of a name: enough that no two models have the same.
_NAME_DIGITS: Final = 16

Pooling = Literal["mean", "cls", "max"]
_POOLING_WORDS: Final[Mapping[str, Pooling]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}


class ModelEmbedder:
    """A sentence embedding model of the local disk.

    Each text goes through the network by itself: in a batch the vectors of a quantised model depend on the texts
    beside it, and a text is to have one vector. Threads may use it at once.

    Args:
        folder: of the model; with its network as ONNX (sentence-transformers: ``backend="onnx"``; fastembed: the folder
            of a snapshot) and ``tokenizer.json``.
        pooling: how the vectors of a text's tokens become one: ``"mean"``, ``"cls"`` (the first one's) or ``"max"``;
            ``None``: as ``1_Pooling/config.json`` has it, the mean where there is none.
        normalized: whether vectors have length 1.
        most_tokens: of a text that are looked at; ``None``: as ``sentence_bert_config.json`` has it, or 256.
        threads: of the processor that one text takes.

    Raises:
        DataError: if there is no such folder, or no such model in it.
        MissingExtra: if onnxruntime or tokenizers is not installed.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        pooling: Pooling | None = None,
        normalized: bool = True,
        most_tokens: int | None = None,
        threads: int = 1,
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(
                "is no folder with a model, and none is downloaded",
                subject=str(folder),
                remedy="name the folder of a model that lies on this machine",
            )
        network, words = _network(self.folder), _needed(self.folder, "tokenizer.json")
        self._pooling = pooling or _pooling(self.folder)
        self._is_normalized = normalized
        self._most_tokens = most_tokens or _most_tokens(self.folder)
        self._tokenizer = _tokenizer(words, self._most_tokens)
        self._session = _session(network, threads)
        self._inputs = {each.name for each in self._session.get_inputs()}
        self._digest = _digest_of(network, words)
        self.dimension = self._embedded("a").shape[-1]

    @property
    def name(self) -> str:
        """What tells it from every other: the content of its files, and the settings."""
        settings = f"{self._pooling}{'/1' if self._is_normalized else ''}/{self._most_tokens}"
        return f"onnx-{self._digest}/{settings}"

    def embed(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Return a vector for each text, shape (n, dimension); of a longer text its beginning counts."""
        made = np.empty((len(texts), self.dimension), np.float32)
        for row, text in zip(made, texts, strict=True):
            row[:] = self._embedded(text)
        return made

    def _embedded(self, text: str) -> NDArray[np.float32]:
        read = self._tokenizer.encode(text)
        given = {
            "input_ids": read.ids, "attention_mask": read.attention_mask, "token_type_ids": read.type_ids,
        }  # fmt: skip
        rows = {name: np.asarray([given[name]], np.int64) for name in self._inputs}
        tokens = np.asarray(self._session.run(None, rows)[0][0], np.float32)
        vector = (
            tokens if tokens.ndim == 1 else _POOLED[self._pooling](tokens)
        )  # some networks pool themselves
        length = float(np.linalg.norm(vector))
        return vector / np.float32(length) if self._is_normalized and length > 0 else vector


_POOLED: Final[Mapping[Pooling, Callable[[NDArray[np.float32]], NDArray[np.float32]]]] = {
    "mean": lambda tokens: tokens.mean(axis=0),
    "cls": lambda tokens: tokens[0],
    "max": lambda tokens: tokens.max(axis=0),
}


def _network(folder: Path) -> Path:
    found = next((folder / name for name in _NETWORKS if (folder / name).is_file()), None)
    if found is None:
        raise DataError(
            "has no network as ONNX (model.onnx, onnx/model.onnx)",
            subject=str(folder),
            remedy="save the model with sentence-transformers' backend='onnx', or take fastembed's folder of it",
        )
    return found


def _needed(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise DataError(f"has no {name}", subject=str(folder), remedy="copy it from where the model is from")
    return folder / name


def _settings(path: Path) -> Mapping[str, Any]:
    """Return the settings of a file; none where it is not there."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"is not JSON: {error}", subject=str(path), remedy="mend it, or remove it") from error
    return found if isinstance(found, dict) else {}


def _pooling(folder: Path) -> Pooling:
    found = _settings(folder / "1_Pooling" / "config.json")
    asked = [kind for word, kind in _POOLING_WORDS.items() if found.get(word)]
    if len(asked) > 1:
        raise DataError(
            f"joins several poolings ({', '.join(asked)})",
            subject=str(folder),
            remedy="name one: pooling='mean'",
        )
    return asked[0] if asked else "mean"


def _most_tokens(folder: Path) -> int:
    found = _settings(folder / "sentence_bert_config.json").get("max_seq_length")
    return found if isinstance(found, int) and found > 0 else _LONGEST


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra(
            f"a model's vectors need {name}: pip install 'automl-memguard[embeddings]'", extra="embeddings"
        ) from error


def _tokenizer(path: Path, most_tokens: int) -> Any:
    try:
        made = _library("tokenizers").Tokenizer.from_file(str(path))
    except MissingExtra:
        raise
    except Exception as error:  # which is what the library raises
        raise DataError(f"cannot be read: {error}", subject=str(path), remedy="copy it anew") from error
    made.no_padding()
    made.enable_truncation(most_tokens)
    return made


def _session(path: Path, threads: int) -> Any:
    library = _library("onnxruntime")
    options = library.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_cpu_mem_arena = False  # which would keep what the longest text took
    options.log_severity_level = 3  # what is wrong is raised
    try:
        return library.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # which is what the library raises
        raise DataError(
            f"cannot be read as ONNX: {error}", subject=str(path), remedy="copy it anew"
        ) from error


def _digest_of(*paths: Path) -> str:
    told = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_READ_BYTES):
                told.update(chunk)
    return told.hexdigest()[:_NAME_DIGITS]
