"""What the sentinel writes into the ledger, off its way: a database that is locked must not keep it waiting.

Comes in: actions, their effects, the word that it is time to settle. Goes out: rows, and rings for those who were
granted. One thread, which does one thing after the other.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from memguard.ledger.book import LedgerBook
from memguard.ledger.records import Action, Room

__all__ = ["Scribe"]

# What waits to be written; more comes only where the ledger is stuck for a long time, and is then left out.
_MOST_WAITING: Final = 1000
_LAST_WORDS_S: Final = 2.0


class Scribe:
    """Writes until `close`.

    Args:
        folder: where the ledger is.
        read_room: what the machine has for leases.
        on_error: told, in the scribe's thread, of what could not be written.
    """

    def __init__(
        self, folder: Path, read_room: Callable[[], Room], on_error: Callable[[Exception], None]
    ) -> None:
        self._book = LedgerBook(folder, read_room)
        self._on_error = on_error
        self._orders: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._numbers: dict[int, int] = {}
        self._next = 0
        self._thread = threading.Thread(target=self._write, name="memguard-scribe", daemon=True)
        self._thread.start()

    def note(self, action: Action) -> int:
        """Write an action down; returns a number for `note_effect`."""
        self._next += 1
        key = self._next
        self._put(lambda: self._numbers.__setitem__(key, self._book.note_action(action)))
        return key

    def note_effect(self, key: int, freed_bytes: int) -> None:
        """Write down what came of an action."""
        self._put(lambda: self._write_effect(key, freed_bytes))

    def _write_effect(self, key: int, freed_bytes: int) -> None:
        number = self._numbers.pop(key, None)
        if number is not None:  # else it could not be written itself
            self._book.note_effect(number, freed_bytes)

    def settle(self) -> None:
        """Have the leases of the dead struck, and wishes granted."""
        if self._orders.empty():  # one that waits already will do
            self._put(self._book.settle)

    def _put(self, order: Callable[[], object]) -> None:
        if self._orders.qsize() < _MOST_WAITING:
            self._orders.put(order)

    def _write(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                order()
            except Exception as error:  # noqa: BLE001 - without this thread nobody's wish would be granted any more
                self._on_error(error)

    def close(self) -> None:
        """Write what is left, unless that takes too long, and close the ledger."""
        self._orders.put(None)
        self._thread.join(_LAST_WORDS_S)
        if not self._thread.is_alive():  # else it ends with the process
            self._book.close()
