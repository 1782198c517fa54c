"""What a janitor is told of shared memory survives that the wrapper is killed at any moment."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from memguard.host.readings import SharedFile
from memguard.worker.janitor import _Notes
from memguard.worker.shared_traces import SharedNote

FIRST = SharedNote((SharedFile("/dev/shm/ж\udcff", 1, 2, 4096),), ((10, 1000),))
SECOND = SharedNote((), ((10, 1000), (11, 1001)))


@pytest.fixture
def notes() -> Iterator[_Notes]:
    notes = _Notes()
    yield notes
    notes.close()


def test_the_latest_note_is_read(notes: _Notes) -> None:
    """Nothing before the first, then each as it was written, whatever a file is called."""
    assert notes.read() == SharedNote()
    for note in (FIRST, SECOND, FIRST, FIRST):
        notes.write(note)
        assert notes.read() == note


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_note_that_was_cut_off_is_not_the_last(notes: _Notes, share: float) -> None:
    """A wrapper that is killed while it writes leaves the note before."""
    notes.write(FIRST)
    notes.write(SECOND)
    page = notes._pages[1]
    os.ftruncate(page, int(os.fstat(page).st_size * share))
    assert notes.read() == FIRST


def test_notes_are_the_same_whatever_the_size_of_a_file() -> None:
    """A file that grew is no news; another one of the same name is, and so is another process."""
    path, device, inode = "/dev/shm/a", 1, 2
    note = SharedNote((SharedFile(path, device, inode, 0),))
    assert note.says_the_same(SharedNote((SharedFile(path, device, inode, 4096),)))
    assert not note.says_the_same(SharedNote((SharedFile(path, device, 3, 0),)))
    assert not note.says_the_same(SharedNote(note.files, ((10, 1000),)))
