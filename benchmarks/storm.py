"""A storm of jobs that together want three times the memory there is, against what people use for such jobs.

In a memory cgroup of its own all jobs start at once and fill at full speed; some use four times what they name. Counted
is what became of the honest ones, whom the kernel killed, and how long it took against the best schedule that there is.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

import _common
from _storm_driver import CONTENDERS
from _storm_mix import MIXES
from _storm_pen import NoPenError, Trial, end_on_sigterm, run_storm
from _storm_tally import Oracle, figure, lost_honest, oracle_figure, oracle_of

from memguard.host import become_subreaper
from memguard.units import parse_size

T = TypeVar("T")
EXIT_NO_PEN = 3
_NEEDED = {
    "loky": "loky",
    **dict.fromkeys(("dask", "dask-told", "dask-tuned", "dask-watched"), "distributed"),
}
# A storm is over in seconds, a contender that hangs never: it is ended and its jobs are lost.
_ALLOWED_S = 120.0


def main() -> int:
    """Measure and print; the exit status is 3 where no memory cgroup can be had."""
    parsed = _options().parse_args()
    end_on_sigterm()
    become_subreaper()  # what a contender leaves without a parent comes here and is reaped
    trials: list[Trial] = []
    try:
        for number, trial in storms(parsed):
            trials.append(trial)
            print(*news(number, trial), sep="\n", file=sys.stderr, flush=True)
    except NoPenError as error:
        print(f"storm: {error}", file=sys.stderr)
        return EXIT_NO_PEN
    except KeyboardInterrupt:
        print("storm: stopped; this is what was measured until then", file=sys.stderr)
        _common.finish(_title(parsed), figures(trials, parsed), parsed)
        return 130
    return _common.finish(_title(parsed), figures(trials, parsed), parsed)


def _options() -> argparse.ArgumentParser:
    parser = _common.options(__doc__)
    parser.add_argument("--trials", type=int, default=3, help="storms of each contender (default: 3)")
    parser.add_argument(
        "--seed", type=int, default=1, help="what is chosen at random follows from it (default: 1)"
    )
    parser.add_argument("--mix", choices=sorted(MIXES), default="basic", help="which jobs (default: basic)")
    parser.add_argument(
        "--only", choices=sorted({*CONTENDERS} - {"solo"}), action="append", help="this contender"
    )
    parser.add_argument("--capacity", type=_size, default=_size("1GiB"), help="of the cgroup (default: 1GiB)")
    parser.add_argument(
        "--patience", type=float, default=_ALLOWED_S, help="seconds for a storm (default: 120)"
    )
    return parser


def _size(text: str) -> int:
    return parse_size(text).resolve(0)


def _title(parsed: argparse.Namespace) -> str:
    return f"A storm in {parsed.capacity >> 20} MiB, {parsed.mix} mix"


def contenders(parsed: argparse.Namespace) -> list[str]:
    """Return who takes part; peers that are not installed are named and left out."""
    # Who is asked for alone is measured alone: the oracle's single runs would take most of the time.
    wished = parsed.only or list(CONTENDERS)
    missing = {name for name in wished if name in _NEEDED and not importlib.util.find_spec(_NEEDED[name])}
    if missing:
        print(f"storm: left out: {', '.join(sorted(missing))}; pip install -e '.[peers]'", file=sys.stderr)
    return [name for name in wished if name not in missing]


def storms(parsed: argparse.Namespace) -> Iterator[tuple[int, Trial]]:
    """Run all storms; contenders take turns, in another order each round, with the same jobs in the same order."""
    chance, names = random.Random(parsed.seed), contenders(parsed)
    for number in range(parsed.trials):
        jobs = _shuffled(MIXES[parsed.mix](parsed.capacity, chance), chance)
        for name in _shuffled(names, chance):
            yield number, run_storm(name, jobs, parsed.capacity, parsed.patience)


def _shuffled(items: Sequence[T], chance: random.Random) -> tuple[T, ...]:
    return tuple(chance.sample(items, len(items)))


def news(number: int, trial: Trial) -> Iterator[str]:
    """Yield how a storm went, as soon as it is over, and why memguard lost a job: hundreds of storms take long."""
    lost = lost_honest(trial)
    yield (
        f"storm {number}, {trial.contender}: {len(lost)} honest jobs lost, {trial.kills} kernel kills, "
        f"full {trial.full} times, {trial.makespan_s:.1f} s. {trial.lost}".rstrip()
    )
    if trial.contender == "memguard":
        for job in lost:
            yield f"  {job.name}: {dict(trial.ends.get(job.name, {}))} {trial.words.get(job.name, '')}"


def figures(trials: Sequence[Trial], parsed: argparse.Namespace) -> list[_common.Figure]:
    """Return the table."""
    by_name: dict[str, list[Trial]] = {}
    for trial in trials:
        by_name.setdefault(trial.contender, []).append(trial)
    cores = os.cpu_count() or 1
    alone = by_name.pop("solo", [])
    oracle = Oracle(tuple(oracle_of(trial, cores, parsed.capacity) for trial in alone))
    lines = [figure(name, by_name[name], oracle) for name in CONTENDERS if name in by_name]
    return [oracle_figure(oracle), *lines] if alone else lines


if __name__ == "__main__":
    sys.exit(main())
