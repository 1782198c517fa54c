"""Searches of a store: nearest vectors, words of any script, both together, and conditions."""

# ruff: noqa: RUF001 - characters of other scripts are what is tested

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.episodes import Episode, EpisodeStore
from memguard.episodes import nearest as nearest_module
from memguard.episodes.folding import fold, terms_of
from memguard.episodes.living import Places
from memguard.episodes.vectors import VectorFiles
from memguard.errors import EpisodeInvalid
from tests.support.episodes import episode, vectors


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EpisodeStore]:
    """3,000 episodes, every tenth without a vector, some deleted, the last few added one by one."""
    with EpisodeStore(tmp_path_factory.mktemp("episodes") / "store") as opened:
        made = [
            episode(number, vector=None if number % 10 == 0 else VECTORS[number]) for number in range(3000)
        ]
        ids = opened.add_episodes(made[:2900])
        for each in made[2900:]:
            ids.append(opened.add_episode(each))
        for number in range(1, 200, 2):
            opened.delete(ids[number])
        yield opened


VECTORS = vectors(3000, seed=5)
HAS = np.asarray([number % 10 != 0 and not (number < 200 and number % 2) for number in range(3000)])


def true_nearest(query: Any, count: int, allowed: Any = HAS) -> list[int]:
    cosines = VECTORS @ query / np.linalg.norm(VECTORS, axis=1) / np.linalg.norm(query)
    return np.argsort(np.where(allowed, -cosines, 2.0), kind="stable")[:count].tolist()


@pytest.mark.requirement("E3")
def test_the_nearest_are_found(store: EpisodeStore) -> None:
    """The ten nearest in order with their cosines; in a small store none is missed."""
    for query in vectors(20, seed=8):
        exact = store.search_episodes_by_vector(query, 10, exact=True)
        assert [hit.episode.metadata["number"] for hit in exact] == true_nearest(query, 10)
        expected = VECTORS[true_nearest(query, 1)[0]]
        assert exact[0].score == pytest.approx(
            expected @ query / np.linalg.norm(expected) / np.linalg.norm(query), abs=1e-5
        )
        assert store.search_episodes_by_vector(query, 10) == exact


def test_the_first_look_finds_nearly_all_of_the_nearest(tmp_path: Path) -> None:
    """Of clustered vectors, as embeddings are, a look at one bit in each value and a second at one in ten find 99 in 100."""
    centres, draw = vectors(40, dimension=192), np.random.default_rng(7)
    made = (centres[draw.integers(40, size=4000)] + 0.7 * vectors(4000, seed=1, dimension=192)).astype(
        np.float32
    )
    files = VectorFiles(tmp_path, 1, 192, read_only=False)
    files.write(range(1, 4001), made)
    found = 0
    for query in made[:20] + 0.3 * vectors(20, seed=2, dimension=192):
        exact, _ = nearest_module.nearest_exactly(files, query, 4000, top_k=10, mask=Everything())
        looked, scores = nearest_module.nearest(
            files, query, 4000, top_k=10, candidates=400, mask=Everything()
        )
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)
        found += len({*exact.tolist()} & {*looked.tolist()})
    files.close()
    assert found >= 198


def test_halves_looked_at_by_two_threads_are_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Candidates are the same, ties and all, whether one thread looks, two do, or no second one is to be had."""
    files = VectorFiles(tmp_path, 1, 64, read_only=False)
    made = vectors(3001, dimension=64)
    files.write(range(1, 3002), made)
    living = Places.of(np.flatnonzero(np.arange(3001) % 3) + 1, 3001)

    def looked() -> list[list[int]]:
        return [
            nearest_module.first_look(files, query, 3001, most, mask).tolist()
            for query in made[:5]
            for most in (1, 50, 3001)
            for mask in (living, Everything())
        ]

    monkeypatch.setattr(nearest_module, "allowed_cpus", lambda: 1)
    alone = looked()
    monkeypatch.setattr(nearest_module, "allowed_cpus", lambda: 2)
    monkeypatch.setattr(nearest_module, "_WORTH_SHARING", 0)
    assert looked() == alone
    monkeypatch.setattr(nearest_module.ThreadPoolExecutor, "submit", no_thread)
    assert looked() == alone
    files.close()


def no_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")


class Everything:
    """A mask that lets everything pass."""

    def among(self, first: int, count: int) -> None:
        return None


def test_conditions_are_met_by_all_that_is_found(store: EpisodeStore) -> None:
    """Of those that meet them, the nearest are found, be they many or few."""
    query = vectors(1, seed=3)[0]
    even = np.asarray([number % 2 == 0 for number in range(3000)]) & HAS
    hits = store.search_episodes_by_vector(query, 10, where={"even": True})
    assert [hit.episode.metadata["number"] for hit in hits] == true_nearest(query, 10, even)
    few = store.search_episodes_by_vector(query, 10, where={"number": {"range": [2950, 2953]}})
    assert sorted(hit.episode.metadata["number"] for hit in few) == [2951, 2952, 2953]
    timed = store.search_episodes_by_text(
        "episode", 50, since_s=1_700_000_000.0 + 2990, until_s=1_700_000_000.0 + 2995
    )
    assert sorted(hit.episode.metadata["number"] for hit in timed) == list(range(2990, 2995))
    assert store.search_episodes_by_text("episode", kind="no such") == []


def test_many_dead_hide_no_living(tmp_path: Path) -> None:
    """Where hundreds of deleted episodes lie nearer than those that are left, these are found all the same."""
    with EpisodeStore(tmp_path / "store") as store:
        near = vectors(1)[0]
        ids = store.add_episodes(Episode(vector=near + 0.001 * each) for each in vectors(500, seed=1))
        store.add_episodes(Episode(text="far", vector=-near + each) for each in vectors(400, seed=2))
        for each in ids:
            store.delete(each)
        hits = store.search_episodes_by_vector(near, 10)
        assert [hit.episode.text for hit in hits] == ["far"] * 10


@pytest.mark.parametrize("dimension", [1, 8, 63, 64, 65, 384])
def test_both_ways_to_count_bits_agree(dimension: int) -> None:
    """The library's count, numpy's and the folded one are the number of signs that differ."""
    some = vectors(50, dimension=dimension)
    codes = nearest_module.codes_of(some)
    truth = ((some > 0) != (some[:1] > 0)).sum(axis=1)
    assert (nearest_module._by_words(codes[:1], codes) == truth).all()
    assert (
        nearest_module._folded_count(codes.view(np.uint64)).sum(axis=1).tolist()
        == (some > 0).sum(axis=1).tolist()
    )
    if nearest_module.simsimd is not None:
        assert (nearest_module._by_simsimd(codes[:1], codes) == truth).all()


TEXTS = {
    "ja": "昨日の失敗を忘却の彼方へ。メモリが足りない",
    "zh": "学习率太高,内存不足",
    "ko": "학교에서 메모리가 부족하다",
    "th": "หน่วยความจำไม่พอ",
    "en": "The job's memory ran out; retry with 4GiB",
    "de": "Straße überlastet, CAFÉ geschlossen",
    "hi": "स्मृति समाप्त हो गई",
    "wide": "ＡＢＣ １２３ ﾒﾓﾘ",
    "rare": "𠮷野家で食べた",
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EpisodeStore]:
    with EpisodeStore(tmp_path_factory.mktemp("texts") / "store") as opened:
        opened.add_episodes(Episode(text=text, id=name) for name, text in TEXTS.items())
        yield opened


@pytest.mark.requirement("E3")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("忘却", {"ja"}), ("忘", {"ja"}), ("却", {"ja"}), ("忘却の彼方", {"ja"}), ("彼方の忘却", set()),
        ("学习", {"zh"}), ("习", {"zh"}), ("足", {"ja", "zh"}), ("不足", {"zh"}), ("학교", {"ko"}), ("메모리", {"ko"}),
        ("ความจำ", {"th"}), ("MEMORY", {"en"}), ("memory job", {"en"}), ("strasse", {"de"}), ("cafe", {"de"}),
        ("über", set()), ("स्मृति", {"hi"}), ("abc 123", {"wide"}), ("メモリ", {"ja", "wide"}), ("𠮷", {"rare"}), ("4gib", {"en"}),
        ("", set()), ("!?", set()), ('"', set()), ("memory\0", {"en"}), ("NEAR(memory, job)", {"en"}), ("mem*", set()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("indexed", [False, True])
def test_words_of_any_script_are_found(
    texts: EpisodeStore, query: str, found: set[str], indexed: bool
) -> None:
    """By one character and by more, whatever case, width or accent they have; also before they are indexed."""
    if indexed:
        texts.index()
        assert {hit.id for hit in texts.search_episodes_by_text(query)} == found
        return
    with EpisodeStore(texts.folder, read_only=True) as reader:  # which indexes nothing
        assert {hit.id for hit in reader.search_episodes_by_text(query)} == found


UNSPACED = {
    "Yi": "ꆈꌠꁱꂷꀋꉬ",
    "Javanese": "ꦲꦏ꧀ꦱꦫꦗꦮꦶ",
    "Balinese": "ᬅᬓ᭄ᬱᬭᬩᬮᬶ",
    "Khmer": "ភាសាខ្មែរល្អ",
    "Lao": "ພາສາລາວດີ",
    "Myanmar": "မြန်မာဘာသာ",
    "Thai": "หน่วยความจำ",
    "New Tai Lue": "ᦅᦱᧄᦺᦑ",
    "Lanna": "ᨣᩤᩴᨾᩮᩬᩥᨦ",
    "Batak": "ᯘᯮᯒᯖ᯲ᯅᯖᯂ᯲",
    "Cham": "ꨀꨇꩉꨌꩌ",
    "Tangut": "𗼇𗟲𗖵𗏁",
    "hentaigana": "𛀂𛀃𛀄𛀅",
    "kana": "いろはにほへと々",
}


@pytest.fixture(scope="module")
def unspaced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EpisodeStore]:
    with EpisodeStore(tmp_path_factory.mktemp("unspaced") / "store") as opened:
        opened.add_episodes(Episode(text=f"x {text}! 5", id=name) for name, text in UNSPACED.items())
        opened.add_episode(Episode(text="བོད་ཀྱི་སྐད་ཡིག་རེད།", id="Tibetan"))
        yield opened


@pytest.mark.requirement("E3")
@pytest.mark.parametrize("script", UNSPACED)
def test_any_part_of_a_script_without_spaces_is_found(unspaced: EpisodeStore, script: str) -> None:
    """From one character on, wherever it begins."""
    text = UNSPACED[script]
    for length in (1, 2, 3, len(text)):
        for start in range(len(text) - length + 1):
            part = text[start : start + length]
            assert script in {hit.id for hit in unspaced.search_episodes_by_text(part)}, part


def test_tibetan_is_found_by_syllables(unspaced: EpisodeStore) -> None:
    """By one and by several, which a mark parts; not by others in their place."""
    for query in ("སྐད", "སྐད་ཡིག", "བོད་ཀྱི་སྐད་ཡིག"):
        assert [hit.id for hit in unspaced.search_episodes_by_text(query)] == ["Tibetan"]
    assert unspaced.search_episodes_by_text("ཡིག་བོད") == []


WITHOUT = (
    *(
        "THAI",
        "LAO",
        "MYANMAR",
        "KHMER",
        "TAI",
        "NEW TAI LUE",
        "AHOM",
        "YI",
        "CJK",
    ),
    *("HIRAGANA", "KATAKANA", "BOPOMOFO", "HANGUL", "TANGUT", "NUSHU", "JAVANESE", "BALINESE"),
    *("BATAK", "CHAM", "BRAHMI", "GRANTHA", "MAKASAR"),
)
WITH = (
    *(
        "LATIN",
        "GREEK",
        "CYRILLIC",
        "ARABIC",
        "HEBREW",
        "DEVANAGARI",
        "BENGALI",
        "TAMIL",
        "TELUGU",
        "SINHALA",
    ),
    *("GEORGIAN", "ARMENIAN", "ETHIOPIC", "MONGOLIAN", "CHEROKEE", "TIBETAN", "SYRIAC", "OSMANYA"),
)


def test_letters_are_judged_by_their_script() -> None:
    """Each letter that Python's Unicode knows of scripts without spaces, and none of those with them."""
    for code in range(0x80, 0x32000):
        each = chr(code)
        name = unicodedata.name(each, "")
        if (
            unicodedata.category(each)[0] == "L"
            and unicodedata.normalize("NFKC", each) == each
            and "TONE" not in name
        ):
            kept = " " not in fold(f"{each}{each}")
            assert not (name.startswith(tuple(f"{script} " for script in WITHOUT)) and kept), name
            assert not name.startswith(tuple(f"{script} " for script in WITH)) or kept, name


def test_who_has_all_words_comes_before_who_has_some(tmp_path: Path) -> None:
    """And a rare word counts more than one that all have."""
    with EpisodeStore(tmp_path / "store") as store:
        store.add_episodes(
            Episode(text=f"the common words {'and more ' * number}", id=str(number)) for number in range(9)
        )
        store.add_episode(Episode(text="the rare word", id="rare"))
        store.add_episode(Episode(text="words that are rare", id="both"))
        assert [hit.id for hit in store.search_episodes_by_text("rare words", 3)][:2] == ["both", "rare"]


def test_both_searches_are_joined_by_rank(store: EpisodeStore) -> None:
    """What both find comes first: 1/61 for each first place."""
    number = 2501
    hits = store.search(f"episode {number}", VECTORS[number], 5)
    assert hits[0].episode.metadata["number"] == number
    assert hits[0].score == pytest.approx(2 / 61)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda s: s.search_episodes_by_vector([0.0] * 24), "all zero"),
        (lambda s: s.search_episodes_by_vector([1.0]), "the query has dimension 1"),
        (lambda s: s.search_episodes_by_vector([1.0] * 24, 0), "top_k is a whole number from 1 to 10000"),
        (lambda s: s.search_episodes_by_text(b"bytes"), "a query is a text, not a bytes"),
        (lambda s: s.search_episodes_by_text("a", where=[1]), "a filter is a mapping"),
        (
            lambda s: s.search_episodes_by_text("a", where={"k": {"like": 1}}),
            "'like' is no operator; one of eq,",
        ),
        (lambda s: s.search_episodes_by_text("a", where={"k": {}}), "nothing is asked of 'k'"),
        (lambda s: s.search_episodes_by_text("a", where={"or": []}), "'or' takes a list of filters"),
        (lambda s: s.search_episodes_by_text("a", where={"k": {"in": 5}}), "'in' takes a list"),
        (lambda s: s.search_episodes_by_text("a", where={"k": {"range": [1]}}), "'range' takes"),
        (lambda s: s.search_episodes_by_text("a", where={"k": {"gt": None}}), "only numbers and texts"),
        (lambda s: s.search_episodes_by_text("a", where={'k"': 1}), "without quotes"),
        (lambda s: s.search_episodes_by_text("a", where={"k\\": 1}), "without quotes"),
        (lambda s: s.search_episodes_by_text("a", where={"k": 10**400}), "a number of 401 digits"),
        (lambda s: s.search_episodes_by_text("a\ud800"), "half of a surrogate pair"),
        (lambda s: s.search_episodes_by_text("a", since_s=1e14), "no moment"),
        (lambda s: s.search_episodes_by_text("a", where={"k": object()}), "nothing that metadata can hold"),
        (lambda s: s.search_episodes_by_text("a", where={"k": float("nan")}), "no number"),
        (lambda s: s.search_episodes_by_text("a", since_s="yesterday"), "no moment"),
        (lambda s: list(s.episodes(where={"not": {"not": 5}})), "a filter is a mapping"),
    ],
)
def test_what_does_not_parse_is_refused(store: EpisodeStore, act: Any, told: str) -> None:
    """It is said what is wrong and what there is instead."""
    with pytest.raises(EpisodeInvalid) as caught:
        act(store)
    assert told in str(caught.value)


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, -1.5])
    | st.sampled_from(["", "a", "ab"])
)
STORED = VALUES | st.lists(VALUES, max_size=3)
OPERATORS = st.one_of(
    st.tuples(st.sampled_from(["eq", "ne"]), STORED),
    st.tuples(st.just("in"), st.lists(VALUES, max_size=3)),
    st.tuples(st.sampled_from(["gt", "gte", "lt", "lte"]), st.integers(-3, 3) | st.sampled_from(["", "a"])),
    st.tuples(st.just("contains"), VALUES),
    st.tuples(st.just("exists"), st.booleans()),
)
FILTERS = st.recursive(
    st.builds(lambda key, asked: {key: {asked[0]: asked[1]}}, st.sampled_from("xy"), OPERATORS),
    lambda inner: st.one_of(
        st.builds(lambda name, each: {name: each}, st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda each: {"not": each}, inner),
    ),
    max_leaves=4,
)  # fmt: skip
MISSING = object()


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same as JSON has them: true is not 1, and 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return [(type(each) is bool, each) for each in one] == [(type(each) is bool, each) for each in other]
    return (type(one) is type(other) and one == other) or (
        isinstance(one, int | float) and isinstance(other, int | float) and one == other
    )


def holds(asked: Any, metadata: dict[str, Any]) -> bool:  # noqa: PLR0911 - a case each
    """Say in plain Python what a filter means."""
    ((key, what),) = asked.items()
    if key in ("and", "or"):
        return (all if key == "and" else any)(holds(each, metadata) for each in what)
    if key == "not":
        return not holds(what, metadata)
    ((name, value),) = what.items()
    stored = metadata.get(key, MISSING)
    if name == "exists":
        return (stored is not MISSING) is value
    if name in ("eq", "ne"):
        return same(stored, value) is (name == "eq")
    if name == "in":
        return any(same(stored, each) for each in value)
    if name == "contains":
        inside = isinstance(stored, list) and any(same(each, value) for each in stored)
        return inside or (isinstance(stored, str) and isinstance(value, str) and value in stored)
    kinds = str if isinstance(value, str) else (int, float)
    if isinstance(stored, bool) or not isinstance(stored, kinds):
        return False
    compared = {"gt": stored > value, "gte": stored >= value, "lt": stored < value, "lte": stored <= value}
    return compared[name]


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EpisodeStore]:
    draw = np.random.default_rng(4)
    pool = [None, True, False, -2, 0, 1, 2.0, 0.5, -1.5, "", "a", "ab", [], [1], ["a", None], [True, 0.5]]
    with EpisodeStore(tmp_path_factory.mktemp("filtered") / "store") as opened:
        opened.add_episodes(
            Episode(metadata={key: pool[draw.integers(len(pool))] for key in "xy" if draw.random() < 0.8})
            for _ in range(150)
        )
        yield opened


@given(asked=FILTERS)
def test_a_filter_means_what_plain_python_would(filtered: EpisodeStore, asked: Any) -> None:
    """Whatever it is made of, a filter lets the same episodes pass as a few lines of Python."""
    passed = {each.id for each in filtered.episodes(where=asked)}
    assert passed == {each.id for each in filtered.episodes() if holds(asked, dict(each.metadata))}


@given(text=st.text())
def test_any_text_can_be_asked_for(texts: EpisodeStore, text: str) -> None:
    """No text is an error of the query's language; none of its terms is empty."""
    if not any(0xD800 <= ord(each) <= 0xDFFF for each in text):
        texts.search_episodes_by_text(text)
    assert all(term.strip('" *') for term in terms_of(text))


def test_folding_leaves_spaced_words_and_pairs_the_others() -> None:
    """A run of three characters becomes two pairs and its last character."""
    assert fold("Plain words") == "Plain words"
    assert fold("ab忘却の").split() == ["ab", "忘却", "却の", "の"]
    assert terms_of("忘 忘却 忘却の x") == ['"忘" *', '"忘却"', '"忘却 却の"', '"x"']
