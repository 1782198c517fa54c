"""The command line: one file a command, exit statuses in ``exits.py``.

Comes in: words and flags. Goes out: data on stdout, words on stderr, an exit status. Commands decide nothing; they read
settings, call the rooms below, and print. Read ``main.py`` first.
"""
