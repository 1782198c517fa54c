"""One book of memory for all processes of a machine's user: who asked, who has what, who is next.

Comes in: wishes in bytes, and readings of the machine. Goes out: leases that end with their owner. Nobody serves it:
every process reads and writes the same files, and decides by the same pure rules. Read ``admission.py``, then
``book.py``. Names are imported from the modules: a guard that only tells what its job uses needs no database.
"""
