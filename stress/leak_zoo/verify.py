"""Find the truth of each program of the zoo by brute force, and write it down in truth.json.

Runs each in a fresh process for 2,000 iterations or until it holds 768 MiB more, or for two minutes if it is slow, and
reads the seven channels after a collection some sixty times. It leaks if some channel rose in each of the last
four quarters of that time by at least half of what it rose in an average one, and by more than the interpreter moves by
itself. That is another rule than the detector's, on a run that is ten to fifty times as long.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import math
import subprocess
import sys
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import _zoo
import run as runner

from memguard.leaks.records import Channel
from memguard.leaks.sampler import Sampler
from memguard.leaks.series import Series

RECORD = Path(__file__).with_name("truth.json")
_ITERATIONS = 2000
_MOST_READINGS = 400
_ENOUGH_BYTES = 768 * 1024**2
_MOST_SECONDS = 120.0
# Units of a channel per iteration below which nothing is called a leak.
_LEAST = {
    "uss": 40.0,
    "live": 10.0,
    "blocks": 0.02,
    "objects": 0.02,
    "fds": 0.02,
    "threads": 0.02,
    "shared": 1.0,
}


def measure(name: str, most: int = _ITERATIONS) -> dict[str, Any]:
    """Run one program in this process until it is decided; returns readings by channel."""
    program = runner.load(name)
    series = Series(16, _MOST_READINGS)
    sampler = Sampler(series)
    began_s = time.monotonic()
    # Made beforehand: what the measuring keeps would be a leak of its own.
    readings = {channel.value: array("d", [math.nan]) * _MOST_READINGS for channel in Channel}
    places, count = array("q", [0]) * _MOST_READINGS, 0
    done = 0
    while done < most and time.monotonic() - began_s < _MOST_SECONDS:
        step = 1 if done < 20 else max(1, min(100, done // 8))
        for number in range(done, done + step):
            program.iteration(number)
        done += step
        sampler.end_block()
        kept = series.newest_end().kept
        places[count] = done
        for channel, value in kept.items():
            readings[channel.value][count] = value
        count += 1
        if kept[Channel.USS] - readings["uss"][0] > _ENOUGH_BYTES and done >= 60:
            break
    if hasattr(program, "teardown"):
        program.teardown()
    return {"iterations": done, "garbage": not gc.isenabled()} | _rates(
        list(places[:count]), {name: list(values[:count]) for name, values in readings.items()}
    )


def _rates(places: list[int], readings: dict[str, list[float]]) -> dict[str, Any]:
    rates = {name: _quarters(places, values) for name, values in readings.items()}
    leaking = {name: each for name, each in rates.items() if _is_steady(each, _LEAST[name])}
    return {
        "leaks": bool(leaking),
        "rates": {name: round(sum(each) / len(each), 3) for name, each in leaking.items()},
    }


def _quarters(places: list[int], values: list[float]) -> list[float]:
    """Return the rise per iteration in each of four equal parts of the last four fifths of the run."""
    edges = [places[-1] * (1 + part) / 5 for part in range(5)]
    nearest = [min(range(len(places)), key=lambda i: abs(places[i] - edge)) for edge in edges]
    return [
        (values[late] - values[early]) / (places[late] - places[early])
        for early, late in itertools.pairwise(nearest)
    ]


def _is_steady(rates: list[float], least: float) -> bool:
    mean = sum(rates) / len(rates)
    return mean >= least and min(rates) >= mean / 2


def main() -> int:
    """Measure one program, or all in processes of their own; say where truth and assertion differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only these (default: all)")
    parser.add_argument("--here", action="store_true", help="measure one program in this very process")
    parser.add_argument("--iterations", type=int, default=_ITERATIONS)
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (default: 2)")
    parsed = parser.parse_args()
    if parsed.here:
        print(json.dumps(measure(parsed.names[0], parsed.iterations)))
        return 0
    chosen = [each for each in _zoo.programs() if not parsed.names or each.name in parsed.names]
    with ThreadPoolExecutor(parsed.jobs) as pool:
        measured = dict(
            zip(
                [each.name for each in chosen],
                pool.map(lambda each: _apart(each, parsed.iterations), chosen),
                strict=True,
            )
        )
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    RECORD.write_text(json.dumps(known | measured, indent=1, sort_keys=True) + "\n")
    wrong = [each.name for each in chosen if measured[each.name].get("leaks") != each.leaks]
    print(
        f"{len(chosen) - len(wrong)} of {len(chosen)} are what they say; not so: {', '.join(wrong) or 'none'}"
    )
    return 1 if wrong else 0


def _apart(program: _zoo.Program, iterations: int) -> dict[str, Any]:
    words = [sys.executable, __file__, "--here", program.name, "--iterations", str(iterations)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr[-300:]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(program.name, found, flush=True)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
