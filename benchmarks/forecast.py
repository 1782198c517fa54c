"""How well jobs are sized before they run: misses at the first attempt, and memory reserved in vain, in two replays.

Shuffled, as in the evaluation of Sizey (Bader et al., CLUSTER 2024): 30 % of each kind's jobs are known, the rest come
one by one. In true order: from nothing, sized when submitted, learned when ended. Both against rules and published
methods on the same jobs. ``--traces`` takes a folder of Nextflow traces (CSV), ``--figures`` figures to compare
with, a file as ``{"trace": wasted GB hours}``; without traces the jobs are made up.

``--only own``: jobs that really ran, `_forecast_own`; ``--only together``: many at once, `_forecast_fleet`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import _common
import _forecast_fleet
import _forecast_own
from _common import Figure
from _forecast_peers import PEERS, Estimator
from _forecast_replay import Outcome, Sizes, Task, in_true_order, read_trace, shuffled
from _forecast_worlds import WORLDS

from memguard.estimate.calibration import binomial_tail

_SEEDS = (1996, 7, 42, 1, 2)
_RATES = (0.05, 0.02)
_OF_FIGURES = 0.75
_SLOWEST_S = 0.010
_CHANCE = 0.01
Make = Callable[[], Sizes]


def main() -> int:
    """Replay and print."""
    parser = _common.options(__doc__)
    parser.add_argument("--traces", type=Path, help="folder of Nextflow traces (CSV)")
    parser.add_argument("--figures", type=Path, help="JSON: wasted GB hours by trace, to compare with")
    parser.add_argument("--seeds", type=int, default=len(_SEEDS), help="how many of five seeds")
    parser.add_argument("--only", choices=["shuffled", "order", "own", "together"], help="one part")
    parser.add_argument(
        "--record", type=Path, help="run jobs into this store, for --own; goes on where it was stopped"
    )
    parser.add_argument("--own", type=Path, help="a store of recorded jobs, for --only own")
    parsed = parser.parse_args()
    if parsed.record or parsed.own or parsed.only in ("own", "together"):
        return _common.finish("forecast", _on_real_jobs(parsed), parsed)
    jobs = (
        {path.stem: read_trace(path) for path in sorted(parsed.traces.glob("*.csv"))}
        if parsed.traces
        else WORLDS
    )
    figures: list[Figure] = []
    if parsed.only != "order":
        figures += _shuffled_figures(jobs, parsed)
    if parsed.only != "shuffled":
        figures += _ordered_figures(jobs)
    return _common.finish("forecast", figures, parsed)


def _on_real_jobs(parsed: argparse.Namespace) -> list[Figure]:
    if parsed.only == "together":
        return _forecast_fleet.figures()
    if parsed.record:
        _forecast_own.record(parsed.record)
    return _forecast_own.figures(parsed.own or parsed.record)


def _shuffled_figures(jobs: Mapping[str, Sequence[Task]], parsed: argparse.Namespace) -> list[Figure]:
    reference = json.loads(parsed.figures.read_text()) if parsed.figures else {}
    figures, ratios, seconds = [], [], []
    for name, tasks in jobs.items():
        for rate in _RATES:
            outcomes = _seeded(tasks, lambda rate=rate: Estimator(rate), parsed.seeds)  # type: ignore[misc]
            seconds += [each for outcome in outcomes for each in outcome.seconds]
            figures.append(_promise(f"shuffled, {name}: memguard at {rate:.0%}", outcomes, rate))
            figures.append(_promised_only(f"shuffled, {name}", outcomes, rate))
            if rate == _RATES[0] and name in reference:
                ratios.append(_waste(outcomes) / reference[name])
        figures += [
            _promise(f"shuffled, {name}: {peer}", _seeded(tasks, make, parsed.seeds))
            for peer, make in PEERS.items()
        ]
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        aim = f"<= {_OF_FIGURES} x"
        told = ", ".join(f"{each:.2f}" for each in ratios)
        figures.append(
            Figure(
                "shuffled: waste against the figures given, geometric mean",
                f"{mean:.3f} x ({told})",
                aim,
                mean <= _OF_FIGURES,
                {"ratio": mean},
            )
        )
    return [*figures, _time(seconds)]


def _ordered_figures(jobs: Mapping[str, Sequence[Task]]) -> list[Figure]:
    figures = []
    for name, tasks in jobs.items():
        largest = in_true_order(tasks, PEERS["max x 1.1"]()).wasted_gbh
        for rate in _RATES:
            outcome = in_true_order(tasks, Estimator(rate))
            figures.append(
                _promise(f"true order, {name}: memguard at {rate:.0%}", [outcome], max(rate, _RATES[0]))
            )
            figures.append(_promised_only(f"true order, {name}", [outcome], rate))
            if rate == _RATES[0]:
                ratio = outcome.wasted_gbh / largest
                what = f"true order, {name}: waste against max x 1.1"
                figures.append(Figure(what, f"{ratio:.2f} x", "<= 1 x", ratio <= 1, {"ratio": ratio}))
        for peer, make in PEERS.items():
            figures.append(_promise(f"true order, {name}: {peer}", [in_true_order(tasks, make())]))
    return figures


def _seeded(tasks: Sequence[Task], make: Make, count: int) -> list[Outcome]:
    return [shuffled(tasks, make(), seed) for seed in _SEEDS[:count]]


def _waste(outcomes: Sequence[Outcome]) -> float:
    return sum(each.wasted_gbh for each in outcomes) / len(outcomes)


def _promise(what: str, outcomes: Sequence[Outcome], rate: float | None = None) -> Figure:
    misses = [each.miss_share for each in outcomes]
    missed, waste = sum(misses) / len(misses), _waste(outcomes)
    value = f"{missed:.2%} missed (at most {max(misses):.2%}), {waste:.4g} GBh wasted"
    data = {"missed": misses, "wasted_gbh": [each.wasted_gbh for each in outcomes]}
    if rate is None:
        return Figure(what, value, data=data)
    return Figure(what, value, f"<= {rate:.0%} missed", missed <= rate, data)


def _promised_only(where: str, outcomes: Sequence[Outcome], rate: float) -> Figure:
    """Return how many were missed of those that came with a promise, in all replays together."""
    promised = sum(each.promised for each in outcomes)
    missed = sum(each.promised_misses for each in outcomes)
    share = promised / max(1, sum(each.tasks.total() for each in outcomes))
    value = f"{missed / max(1, promised):.2%} missed of {promised:,} ({share:.0%} of all)"
    # A handful cannot keep a share: as many as chance allows in one of a hundred replays are no broken promise.
    kept = binomial_tail(missed, promised, rate) >= _CHANCE
    aim = f"<= {rate:.0%}, as far as {promised:,} tell"
    data = {"promised": promised, "missed": missed, "share": share}
    return Figure(f"{where}: promised only, memguard at {rate:.0%}", value, aim, kept, data)


def _time(seconds: Sequence[float]) -> Figure:
    ordered = sorted(seconds)
    middle, late = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    value = f"p50 {middle * 1000:.1f} ms, p99 {late * 1000:.1f} ms of {len(ordered):,}"
    aim = f"p99 <= {_SLOWEST_S * 1000:.0f} ms"
    return Figure(
        "one prediction, reasons and all", value, aim, late <= _SLOWEST_S, {"p50_s": middle, "p99_s": late}
    )


if __name__ == "__main__":
    sys.exit(main())
