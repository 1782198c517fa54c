"""What many expansions in one process leave behind, engine and stock, each in a fresh process."""

from __future__ import annotations

import argparse

from _autofeat_programs import answer_of_fresh
from _common import Figure

from memguard.units import MIB

__all__ = ["measure"]

_MOST_BYTES = 2 * MIB

_PROGRAM = """
import gc, json, os, warnings
warnings.simplefilter("ignore")
import numpy as np, pandas as pd
from memguard.host import read_process_memory
if {stock}:
    from autofeat.feateng import engineer_features
else:
    from memguard_integrations.autofeat.engine.expansion import engineer_features
frame = pd.DataFrame(np.random.default_rng(0).lognormal(size=(1000, 4)), columns=list("abcd"))
def private():
    gc.collect()
    return read_process_memory(os.getpid()).private_bytes
for _ in range(3):
    engineer_features(frame, max_steps=2)
before = private()
for _ in range({times}):
    engineer_features(frame, max_steps=2)
print(json.dumps(private() - before))
"""


def measure(parsed: argparse.Namespace) -> list[Figure]:
    """Expand a small table fifty times after the first three; stock fewer times, told for fifty."""
    times = {True: 2, False: 10} if parsed.quick else {True: 8, False: 50}
    grown = {
        stock: answer_of_fresh(_PROGRAM.format(stock=stock, times=count)) for stock, count in times.items()
    }
    stock = grown[True] / times[True] * times[False]
    return [
        Figure(f"{times[False]} expansions in one process: stock grows by", f"{stock / MIB:.0f} MiB"),
        Figure(
            f"{times[False]} expansions in one process: engine grows by",
            f"{grown[False] / MIB:.1f} MiB",
            f"< {_MOST_BYTES // MIB} MiB",
            grown[False] < _MOST_BYTES,
        ),
    ]
