"""Words of any script: folded into what an index can hold, and found from one character on."""

# ruff: noqa: RUF001 - characters of other scripts are what is tested

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.episodes import Episode, EpisodeStore
from memguard.episodes.folding import fold, terms_of

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
