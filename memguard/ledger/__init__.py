"""One book of memory for all processes of a machine's user: who asked, who has what, who is next.

Comes in: wishes in bytes, and readings of the machine. Goes out: leases that end with their owner. Nobody serves it:
every process reads and writes the same files, and decides by the same pure rules. Read ``admission.py``, then
``book.py``.
"""

from memguard.ledger.book import LedgerBook, Wish
from memguard.ledger.place import ledger_folder
from memguard.ledger.records import Lease, Room
from memguard.ledger.waiting import HeldLease, acquire

__all__ = ["HeldLease", "Lease", "LedgerBook", "Room", "Wish", "acquire", "ledger_folder"]
