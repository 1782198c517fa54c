"""Made-up worlds for the forecasts' replays: what real traces may hold and the two at hand may not."""

from __future__ import annotations

import random
from collections.abc import Callable

from _forecast_replay import Task

__all__ = ["WORLDS"]

_JOBS = 160
_GB = 1e9
Draw = Callable[[random.Random, float], tuple[float, float]]


def _constant(chance: random.Random, _: float) -> tuple[float, float]:
    return chance.uniform(0.1, 1) * _GB, 40 * _GB * chance.lognormvariate(0, 0.0005)


def _linear(chance: random.Random, _: float) -> tuple[float, float]:
    size = _GB * chance.lognormvariate(0, 0.8)
    return size, 0.3 * _GB + 3 * size * chance.lognormvariate(0, 0.08)


def _quadratic(chance: random.Random, _: float) -> tuple[float, float]:
    size = _GB * chance.uniform(0.1, 2)
    return size, 0.1 * _GB + 4 * size**2 / _GB * chance.lognormvariate(0, 0.1)


def _bimodal(chance: random.Random, _: float) -> tuple[float, float]:
    return chance.uniform(0.1, 1) * _GB, chance.choice([1, 9]) * _GB * chance.lognormvariate(0, 0.03)


def _heavy_tail(chance: random.Random, _: float) -> tuple[float, float]:
    return chance.uniform(0.1, 1) * _GB, min(60.0, chance.paretovariate(2.5)) * _GB


def _drift(chance: random.Random, moment: float) -> tuple[float, float]:
    return chance.uniform(0.1, 1) * _GB, (2 + 4 * moment) * _GB * chance.lognormvariate(0, 0.08)


def _new_version(chance: random.Random, moment: float) -> tuple[float, float]:
    return chance.uniform(0.1, 1) * _GB, (6 if moment > 0.5 else 2) * _GB * chance.lognormvariate(0, 0.05)


_DRAWS: dict[str, Draw] = {
    "constant": _constant,
    "linear": _linear,
    "quadratic": _quadratic,
    "bimodal": _bimodal,
    "heavy tail": _heavy_tail,
    "drift": _drift,
    "new version": _new_version,
}


def _world(draw: Draw, wave: int, seed: int) -> list[Task]:
    """Return jobs submitted in waves; those that need more run longer, so the small ones end first."""
    chance = random.Random(seed)
    tasks = []
    for number in range(_JOBS):
        size, peak = draw(chance, number / _JOBS)
        runtime = 60 * (peak / _GB) ** 0.5 * chance.lognormvariate(0, 0.4)
        submitted = (number // wave) * 150.0 + chance.random()
        features = {"input_bytes": size, "preset_bytes": 80 * _GB, "cpus": 4.0}
        tasks.append(Task("job", features, peak, runtime, submitted, submitted + runtime, 80 * _GB))
    return tasks


WORLDS: dict[str, list[Task]] = {
    f"{name}, waves of {wave}": _world(draw, wave, seed)
    for seed, (name, draw) in enumerate(_DRAWS.items())
    for wave in (2, 40)
}
