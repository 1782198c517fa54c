"""Process identities: what /proc/PID/stat says, and when a process may be called dead."""

from __future__ import annotations

import dataclasses
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.host import identify, is_alive, portable
from memguard.host.identity import parse_stat, read_stat


def stat_text(name: bytes, state: bytes = b"S", flags: int = 4194560, threads: int = 4) -> bytes:
    fields = b"%b 17 42 42 0 -1 %d 100 0 0 0 5 3 0 0 20 0 %d 0 987654 1000 200\n" % (state, flags, threads)
    return b"42 (" + name + b") " + fields


@given(name=st.binary(max_size=15))
def test_any_name_is_read_over(name: bytes) -> None:
    """Blanks, parentheses, newlines and bytes that are no text do not shift the fields behind the name."""
    stat = parse_stat(stat_text(name))
    assert (stat.state, stat.parent_pid, stat.threads, stat.start_ticks) == ("S", 17, 4, 987654)
    assert stat.name == name.decode("utf-8", "replace")


@pytest.mark.parametrize("text", [b"", b"42", b"42 (cat", b"42 (cat) S 1 2", b"1 2) (3 S 1"])
def test_other_texts_are_refused(text: bytes) -> None:
    """An empty or torn content is an error, not a process with zeros."""
    with pytest.raises(ValueError, match="not the content"):
        parse_stat(text)


@pytest.mark.parametrize(
    ("state", "threads", "dead"),
    [
        (b"S", 1, False),
        (b"R", 4, False),
        (b"D", 1, False),
        (b"T", 1, False),
        (b"Z", 1, True),
        (b"X", 0, True),
    ],
)
def test_zombies_are_dead(state: bytes, threads: int, dead: bool) -> None:
    """Zombies and processes being removed are dead; stopped and waiting ones are not."""
    assert parse_stat(stat_text(b"cat", state, threads=threads)).is_dead is dead


def test_a_process_whose_first_thread_ended_is_alive() -> None:
    """It shows as a zombie, but its other threads go on."""
    assert not parse_stat(stat_text(b"cat", b"Z", threads=3)).is_dead


def test_a_forked_process_is_told_from_a_program() -> None:
    """The kernel's flag for "forked, no exec since" is read."""
    assert not parse_stat(stat_text(b"cat", flags=0x40)).has_executed
    assert parse_stat(stat_text(b"cat", flags=0x400000)).has_executed


def test_this_process_knows_itself() -> None:
    """identify() names the caller, and the caller is alive."""
    me = identify()
    assert me.pid == os.getpid()
    assert me.start_ticks == read_stat(os.getpid()).start_ticks
    assert is_alive(me)
    assert identify() == me


def test_another_start_time_is_another_process() -> None:
    """A pid that is in use again does not keep its former owner alive."""
    me = identify()
    assert not is_alive(dataclasses.replace(me, start_ticks=me.start_ticks - 1))


def test_another_boot_is_proof_of_death() -> None:
    """No process outlives a boot of its machine."""
    me = identify()
    assert not is_alive(dataclasses.replace(me, boot_id="00000000-0000-0000-0000-000000000000"))


def test_an_unknown_boot_proves_nothing() -> None:
    """Without a boot id the process itself is looked at."""
    assert is_alive(dataclasses.replace(identify(), boot_id=""))


def test_another_host_or_namespace_is_unknown_and_so_alive() -> None:
    """What cannot be seen from here is never declared dead, not even with another boot id."""
    me = identify()
    elsewhere = dataclasses.replace(me, host="elsewhere", boot_id="x", start_ticks=1)
    assert is_alive(elsewhere)
    assert is_alive(dataclasses.replace(me, host=f"{me.host}#pid:4026531999", start_ticks=1))


def test_a_pid_that_cannot_be_is_dead() -> None:
    """A pid above the kernel's largest belongs to nobody."""
    assert not is_alive(dataclasses.replace(identify(), pid=2**22 + 1))
    with pytest.raises(FileNotFoundError):
        identify(2**22 + 1)


def test_psutil_tells_the_same_story() -> None:
    """The way for systems without /proc knows this process, and that nobody has an impossible pid."""
    ticks = portable.start_ticks(os.getpid())
    assert portable.is_alive(os.getpid(), ticks)
    assert not portable.is_alive(os.getpid(), ticks - 1)
    assert not portable.is_alive(2**22 + 1, ticks)
    with pytest.raises(ProcessLookupError):
        portable.start_ticks(2**22 + 1)
