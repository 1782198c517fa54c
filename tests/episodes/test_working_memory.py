"""Working memory: within its budget whatever is added, nothing lost, marks kept, its state complete."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memguard.episodes import EpisodeStore, WorkingMemory
from memguard.episodes.summarising import count_tokens, cut, extract
from memguard.errors import CapacityExceeded, EpisodeInvalid, EpisodeMissing, StateMismatch

TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=300),
    st.sampled_from(
        ["The fit failed. Memory was short. ", "記憶が足りない。学習を止めた。", "لم تكف الذاكرة؟ توقف."]
    ).map(lambda each: each * 20),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EpisodeStore]:
    with EpisodeStore(tmp_path / "store", durability="orderly-end") as made:
        yield made


@pytest.mark.requirement("E11")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(texts=st.lists(st.tuples(TEXTS, st.booleans()), max_size=25))
def test_it_keeps_to_its_budget_and_loses_nothing(store: EpisodeStore, texts: list[tuple[str, bool]]) -> None:
    """Whatever is added, both budgets hold, each original can be had by its id, and what is pinned stays as it is."""
    memory = WorkingMemory(store, budget_tokens=300, budget_bytes=900, spill_bytes=400)
    added: dict[str, str] = {}
    pinned: dict[str, str] = {}
    for text, wants_pin in texts:
        is_pinned = wants_pin and len(pinned) < 2
        try:
            made = memory.add(text, pinned=is_pinned)
        except CapacityExceeded:
            continue
        added[made] = text
        if is_pinned:
            (pinned[made],) = [each.text for each in memory.entries() if each.id == made]
        assert memory.tokens <= 300
        assert memory.size_bytes <= 900
    assert {each: memory.original(each) for each in added} == added
    assert {each.id: each.text for each in memory.entries() if each.is_pinned} == pinned


@pytest.mark.requirement("E11")
def test_the_oldest_unmarked_entries_become_a_summary(store: EpisodeStore) -> None:
    """Over budget the oldest that are not pinned are summarised in their place; the newest and the marked stay."""
    memory = WorkingMemory(store, budget_tokens=400)
    first = memory.add("Keep this rule in mind. " * 4, role="system", pinned=True)
    ids = [
        memory.add(f"Round {number} of the fit took memory. Other words came up. ", tags=["fit"])
        for number in range(40)
    ]
    entries = memory.entries()
    assert entries[0].id == first
    assert entries[1].role == "summary"
    assert entries[1].tags == ("fit",)
    assert entries[-1].id == ids[-1]
    assert ids[0] in entries[1].summary_of
    assert memory.original(ids[0]).startswith("Round 0 ")
    hits = store.search_episodes_by_text("Round 0", namespace="working-memory")
    assert ids[0] in [each.id for each in hits]
    with pytest.raises(EpisodeMissing, match=f"is a summary.*{ids[0]}"):
        memory.original(entries[1].id)
    with pytest.raises(EpisodeMissing, match="was it summarised"):
        memory.pin(ids[0])


@pytest.mark.requirement("E11")
def test_a_large_payload_leaves_a_preview(store: EpisodeStore) -> None:
    """A text beyond the spill size is in the store at once; its beginning stays, and marks can be set on it."""
    memory = WorkingMemory(store, spill_bytes="1KiB", preview_tokens=16)
    made = memory.add("記憶" * 5000, tags=("big",))
    (entry,) = memory.entries("big")
    assert entry.is_spilled
    assert entry.text == "記憶" * 7 + "記…"
    assert memory.original(made) == "記憶" * 5000
    memory.pin(made)
    memory.tag(made, "big", "kept")
    assert memory.entries("kept")[0].is_pinned


@pytest.mark.requirement("E11")
def test_a_summary_of_somebody_elses_making(store: EpisodeStore) -> None:
    """A summariser can be given; what it makes too long is cut, and where it fails nothing is changed."""
    asked: list[int] = []

    def shout(texts: Sequence[str], most_tokens: int) -> str:
        asked.append(len(texts))
        if len(asked) > 1:
            raise RuntimeError("no model")
        return "LONG " * 10_000

    memory = WorkingMemory(store, budget_tokens=100, summarise=shout)
    ids = [memory.add(f"{number} " + "word " * 15) for number in range(6)]
    assert asked == [asked[0]]
    assert memory.tokens <= 100
    before = memory.state_dict()
    with pytest.raises(RuntimeError, match="no model"):
        for _ in range(20):
            before = memory.state_dict()
            memory.add("word " * 15)
    assert memory.state_dict() == before
    assert memory.original(ids[0]).startswith("0 ")


@pytest.mark.requirement("E11")
def test_what_is_pinned_can_leave_no_room(store: EpisodeStore) -> None:
    """Where what is pinned fills the budget an add is refused with the next step, and nothing is changed."""
    memory = WorkingMemory(store, budget_tokens=50, preview_tokens=40)
    memory.add("word " * 35, pinned=True)
    before = memory.state_dict()
    with pytest.raises(CapacityExceeded, match="unpin something"):
        memory.add("other " * 30)
    assert memory.state_dict() == before
    assert len(store) == 0


@pytest.mark.requirement("E11")
def test_compaction_makes_room_ahead(store: EpisodeStore) -> None:
    """After `compact` a quarter of the budget is free, and a second one changes nothing."""
    memory = WorkingMemory(store, budget_tokens=200)
    while memory.tokens < 180:
        memory.add("The fit took more memory than was planned. ")
    memory.compact()
    assert memory.tokens <= 150
    before = memory.state_dict()
    memory.compact()
    assert memory.state_dict() == before


@pytest.mark.requirement("E12")
def test_its_state_goes_through_json(store: EpisodeStore, tmp_path: Path) -> None:
    """Entries, marks and budgets come back; other names, impossible values and a store without the originals are refused."""
    memory = WorkingMemory(store, budget_tokens=120, namespace="agent-7")
    ids = [memory.add(f"{number} " + "word " * 20, tags=[f"t{number}"]) for number in range(12)]
    state = json.loads(json.dumps(memory.state_dict()))
    other = WorkingMemory(store)
    assert other.load_state_dict(state).unexpected == ()
    assert other.entries() == memory.entries()
    assert other.state_dict() == state
    assert other.original(ids[0]) == memory.original(ids[0])
    with pytest.raises(StateMismatch, match="has unknown mood"):
        other.load_state_dict({**state, "mood": 1})
    assert other.load_state_dict({**state, "mood": 1}, strict=False).unexpected == ("mood",)
    with pytest.raises(EpisodeInvalid, match="budget_tokens"):
        other.load_state_dict({**state, "budget_tokens": -1})
    with pytest.raises(EpisodeInvalid):
        other.load_state_dict({**state, "entries": [{"id": "x"}]})
    assert other.state_dict() == state
    with EpisodeStore(tmp_path / "elsewhere") as elsewhere, pytest.raises(EpisodeMissing, match="is not in"):
        WorkingMemory(elsewhere).load_state_dict(state)


@pytest.mark.requirement("E11")
@given(texts=st.lists(TEXTS, max_size=6), most=st.integers(1, 200))
def test_an_extract_is_made_of_the_texts_themselves(texts: list[str], most: int) -> None:
    """Of any script, an extract keeps within its tokens, says nothing new, and is the same each time."""
    made = extract(texts, most)
    assert count_tokens(made) <= most
    assert made == extract(texts, most)
    joined = " ".join(texts)
    for word in made.removesuffix("…").split():
        assert word in joined


@given(text=TEXTS, most=st.integers(1, 50))
def test_a_cut_is_the_longest_beginning(text: str, most: int) -> None:
    """A cut is a beginning of the text within the tokens, and one character more would not be."""
    made = cut(text, most)
    assert count_tokens(made) <= most
    if made != text:
        assert text.startswith(made.removesuffix("…"))
        assert count_tokens(text[: len(made.removesuffix("…")) + 1] + "…") > most
