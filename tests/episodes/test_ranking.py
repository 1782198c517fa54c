"""Searches by words while the index lags behind the writes: what is not in it yet ranks as it will."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from memguard.episodes import Episode, EpisodeStore

WORDS = [f"word{number}" for number in range(40)]
QUERIES = [
    "word0",
    "word30 word3",
    "word38",
    "word1 nowhere",
    "word0 word1 word2",
    "学",
    "学習",
    "word39 学習",
]


def texts(count: int, seed: int) -> list[str]:
    """Return texts of 3 to 40 words, of which the first are common and the last rare."""
    draw = np.random.default_rng(seed)
    chance = 1 / np.arange(1, 41)
    made = []
    for _ in range(count):
        some = draw.choice(WORDS, size=draw.integers(3, 41), p=chance / chance.sum()).tolist()
        made.append(" ".join([*some, *(["機械学習"] * draw.integers(0, 2))]))
    return made


@pytest.fixture(params=[(0, 300), (300, 40), (40, 300), (300, 1)], ids=str)
def lagging(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EpisodeStore]:
    """A store of which some texts are indexed and some are not, as it is read while somebody writes for long."""
    indexed, beyond = request.param
    with EpisodeStore(tmp_path / "store") as store:
        if indexed:
            store.add_episodes(map(Episode, texts(indexed, 1)))
            store.index()
        store.add_episodes(Episode(text=text, kind="late") for text in texts(beyond, 2))
        yield store


@pytest.mark.requirement("E3")
@pytest.mark.parametrize("query", QUERIES)
def test_what_is_not_indexed_yet_ranks_as_it_will(lagging: EpisodeStore, query: str) -> None:
    """The same hits in the same order with the same scores, before and after the index has caught up."""
    with EpisodeStore(lagging.folder, read_only=True) as reader:  # which indexes nothing
        before = reader.search_episodes_by_text(query, 20)
        late = reader.search_episodes_by_text(query, 3, kind="late")
    lagging.index()
    after = lagging.search_episodes_by_text(query, 20)
    assert [hit.id for hit in before] == [hit.id for hit in after]
    assert [hit.score for hit in before] == pytest.approx([hit.score for hit in after], rel=1e-9)
    assert [hit.id for hit in late] == [
        hit.id for hit in lagging.search_episodes_by_text(query, 3, kind="late")
    ]


def test_of_a_common_word_the_newest_are_ranked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they would be among all, by a guess of how many there are; those that meet a condition as well."""
    monkeypatch.setattr("memguard.episodes.words._MOST_RANKED", 100)
    monkeypatch.setattr("memguard.episodes.words._FEW_RANKED", 60)
    with EpisodeStore(tmp_path / "store") as store:
        store.add_episodes([Episode(text="rare common common common")])
        store.add_episodes(
            Episode(
                text=f"common {'and more ' * (number % 7)}",
                kind="odd" if number % 2 else "even",
                id=str(number),
            )
            for number in range(400)
        )
        store.add_episode(Episode(text="common common", id="best"))
        hits = store.search_episodes_by_text("common", 10)
        assert hits[0].id == "best"
        short = [str(number) for number in range(399, 340, -1) if number % 7 == 0]
        assert [hit.id for hit in hits[1:]] == short[:9]
        assert all(hit.score > 0 for hit in hits)
        assert {hit.episode.kind for hit in store.search_episodes_by_text("common", 60, kind="odd")} == {
            "odd"
        }
        assert store.search_episodes_by_text("common rare")[0].episode.text.startswith("rare")


def test_common_words_hide_no_rare_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old text with a query's rare word is found, be the others in as many newer texts as may be."""
    monkeypatch.setattr("memguard.episodes.words._MOST_RANKED", 100)
    monkeypatch.setattr("memguard.episodes.words._FEW_RANKED", 60)
    with EpisodeStore(tmp_path / "store") as store:
        store.add_episode(Episode(text="a rare one", id="rare"))
        store.add_episode(Episode(text="one that is common as well as rare", id="both"))
        store.add_episodes(Episode(text="common and more") for _ in range(400))
        store.index()
        hits = store.search_episodes_by_text("more of the common rare", 5)
        assert {hit.id for hit in hits[:2]} == {"both", "rare"}
        assert hits[0].score > hits[1].score > hits[2].score > 0
