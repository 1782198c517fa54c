"""Texts made shorter by keeping their own most telling sentences: deterministic, for any script, without a model.

Comes in: texts and how many tokens are allowed. Goes out: sentences of theirs, in their order. What a sentence tells is
reckoned from how often its words come up in all of the texts, as Luhn had it (1958).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from memguard.episodes.folding import fold

__all__ = ["Summariser", "count_tokens", "cut", "extract"]

Summariser = Callable[[Sequence[str], int], str]
# Where sentences end, in Latin, Chinese, Japanese, Indian, Arabic, Armenian, Ethiopic, Burmese and Khmer writing.
_STOPS: Final = "\u3002\uff01\uff1f\uff61\u061f\u0964\u0965\u0589\u1362\u104b\u17d5"
_END: Final = re.compile(rf"(?<=[.!?…])\s+|(?<=[{_STOPS}])\s*|\n+")
_WORD: Final = re.compile(r"\w+")
# Of English text a token is about four characters; of other scripts about one.
_ASCII_A_TOKEN: Final = 4


def count_tokens(text: str) -> int:
    """Return about how many tokens a model would make of a text; a real tokenizer can be given in its place."""
    plain = sum(each.isascii() for each in text) if not text.isascii() else len(text)
    return math.ceil(plain / _ASCII_A_TOKEN) + len(text) - plain


def cut(text: str, most_tokens: int, count: Callable[[str], int] = count_tokens) -> str:
    """Return the longest beginning of a text within so many tokens, with an ellipsis if something is left out."""
    if count(text) <= most_tokens:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(text[:middle] + "…") <= most_tokens else (low, middle - 1)
    return text[:low] + "…" if low else ""


def extract(texts: Sequence[str], most_tokens: int) -> str:
    """Return the most telling sentences of some texts, in their order, within so many tokens."""
    sentences = [each.strip() for text in texts for each in _END.split(text) if each.strip()]
    words = [set(_WORD.findall(fold(each).casefold())) for each in sentences]
    often = Counter(word for each in words for word in each)
    # By the mean, else the longest would win; of equals the earlier one.
    score = [sum(often[word] for word in each) / len(each) if each else 0.0 for each in words]
    kept, left, said = list[int](), most_tokens, set[str]()
    for at in sorted(range(len(sentences)), key=lambda at: (-score[at], at)):
        cost = count_tokens(sentences[at]) + 1
        if cost <= left and sentences[at] not in said:
            kept.append(at)
            said.add(sentences[at])
            left -= cost
    if not kept and sentences:
        return cut(max(zip(score, sentences, strict=True), key=lambda each: each[0])[1], most_tokens)
    return " ".join(sentences[at] for at in sorted(kept))
