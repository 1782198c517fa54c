"""pytest: tests that must not leak.

Comes in: a test with the mark ``leakcheck``, a function for the fixture of that name, or ``--leakcheck``. Goes out: a
test that fails where what it does keeps more memory with every iteration, and who holds it. Without any of the three
the plugin does nothing and loads nothing. Read plugin.py first, then checking.py.
"""
