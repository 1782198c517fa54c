"""Programs that commands of tests run."""

from __future__ import annotations

# Says when it holds as many MiB as it is told to, and ends when its stdin does.
HOLDS = """
import sys
held = bytearray(int(sys.argv[1]) << 20)
print("ready", flush=True)
sys.stdin.read()
"""
