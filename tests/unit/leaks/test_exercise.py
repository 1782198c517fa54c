"""Whatever a function does that is called again and again, it is told, and no verdict is better than what was seen."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from memguard.leaks.endings import report_of_death
from memguard.leaks.exercise import Exercised, TargetError, find_function, read_trail
from memguard.leaks.records import Verdict

APP = """
import gc, os, sys
import memguard.leaks.exercise as room
CACHE, calls = {}, []
NUMBER = 7

class Jobs:
    @staticmethod
    def train(): calls.append("train")

def setup(): calls.append("setup")
def leak(i): CACHE[i] = bytes(5000)
def clean(): print("words of the function")
def raises(i):
    if i == 16:
        raise ValueError("no 17, password=hunter2")
def exits(i):
    if i == 5:
        sys.exit(3)
def slow(): room.time.now_s += 60
def slowish(i):
    room.time.now_s += 5
    CACHE[-1 - i] = bytes(20_000)
def forks(i):
    if os.fork() == 0:
        return  # the copy goes on in the loop
    os.wait()
def switches(): gc.disable()
def starves(i):
    if i == 3:
        raise MemoryError
async def coroutine(): calls.append("awaited")
def generator(): yield calls.append("run through")
def numbered(number): calls.append(number)
def defaulted(size=10): calls.append(size)
def both(*args, **kwargs): calls.append(len(args))
def needs(table, target): pass
"""
NAMES = ["leak", "clean", "raises", "exits", "slow", "slowish", "forks", "switches", "starves"]
PROGRAM = """
import gc, os, pickle, sys
import memguard.leaks.exercise as room
from memguard.leaks.exercise import Exercise, exercise
class Clock:
    "Goes on when a function says that it took its time."
    now_s = 0.0
    def monotonic(self): return self.now_s
room.time = Clock()
kept = os.dup(1)
found = {}
for name in sys.argv[2:]:
    time_s = {"slow": 600.0, "slowish": 200.0}.get(name)
    found[name] = exercise(Exercise(f"app:{name}", 40, sys.argv[1], f"{sys.argv[1]}/{name}", time_s))
    gc.enable()
with open(kept, "wb") as out:
    out.write(pickle.dumps(found))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module of functions that misbehave."""
    place = tmp_path_factory.mktemp("app")
    (place / "app.py").write_text(APP)
    return place


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> dict[str, Exercised]:
    """How forty iterations of each went, in a fresh interpreter."""
    words = [sys.executable, "-c", PROGRAM, str(folder), *NAMES]
    done = subprocess.run(words, capture_output=True, check=True)
    assert b"words of the function" in done.stderr
    found: dict[str, Exercised] = pickle.loads(done.stdout)  # nothing that was printed is in it
    return found


def test_a_leak_is_found_and_named(outcomes: dict[str, Exercised]) -> None:
    """A dictionary that keeps 5000 bytes a call is a leak, named, with its rate."""
    report = outcomes["leak"].report
    assert report is not None
    assert report.verdict is Verdict.LEAKING
    assert report.culprits[0].holder == "app.CACHE: dict, +1 entries/iteration"
    assert 5000 <= report.culprits[0].bytes_per_iteration <= 5500
    assert outcomes["leak"].stopped == ""


def test_a_clean_function_is_stable(outcomes: dict[str, Exercised]) -> None:
    """Nothing grows, nothing is said."""
    report = outcomes["clean"].report
    assert report is not None
    assert (report.verdict, report.culprits, report.iterations) == (Verdict.STABLE, (), 40)


@pytest.mark.parametrize(
    ("name", "ended", "words"),
    [
        ("raises", 16, "it raised on iteration 17: ValueError: no 17"),
        ("exits", 5, "it ended the interpreter on iteration 6 (SystemExit: 3)"),
        ("starves", 3, "it ran out of memory on iteration 4"),
    ],
)
def test_who_fails_is_not_called_stable(
    outcomes: dict[str, Exercised], name: str, ended: int, words: str
) -> None:
    """A failure is told with its iteration, secrets struck out, and what was seen until then decides nothing."""
    outcome = outcomes[name]
    assert outcome.stopped.startswith(words)
    assert "hunter2" not in outcome.stopped
    assert outcome.report is not None
    assert outcome.report.iterations == ended
    assert outcome.report.verdict is Verdict.INCONCLUSIVE
    assert outcome.report.advice == "let it get through all iterations, then look again"
    assert outcome.ran_out is (name == "starves")


def test_time_is_up_between_iterations(outcomes: dict[str, Exercised]) -> None:
    """A minute an iteration: it ends with what was seen, how long one takes, and how many more would decide."""
    outcome = outcomes["slow"]
    assert outcome.report is not None
    assert outcome.stopped == "its time was up after 10 of 40 iterations, 1 min 0 s each"
    assert outcome.report.iterations == 10
    assert outcome.report.verdict is Verdict.INCONCLUSIVE
    assert outcome.report.more_iterations == 10


def test_fewer_are_planned_where_the_time_allows_no_more(outcomes: dict[str, Exercised]) -> None:
    """As soon as it is seen how long an iteration takes the look is planned for those that fit, and decides."""
    outcome = outcomes["slowish"]
    assert outcome.stopped == "its time allows 32 of 40 iterations, 5.0 s each"
    assert outcome.report is not None
    assert outcome.report.iterations == 30  # two told how long one takes
    assert outcome.report.verdict is Verdict.LEAKING


def test_forks_are_told_and_their_copies_do_not_go_on(outcomes: dict[str, Exercised], folder: Path) -> None:
    """A copy that returns into the loop ends there: one loop, one note for each iteration, and a word of it."""
    assert outcomes["forks"].notes == ("it forked 40 times; what its children hold is not looked at",)
    assert len(read_trail(folder / "forks")) == 41


def test_changed_settings_of_the_collector_are_told(outcomes: dict[str, Exercised]) -> None:
    """Who switches the collector off learns that it was seen."""
    (note,) = outcomes["switches"].notes
    assert "it changed the garbage collector: on with thresholds" in note
    assert "then off" in note


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("app", "is no MODULE:FUNCTION"),
        ("nowhere:run", "there is no module nowhere in"),
        ("app:tarin", "there is no tarin in it"),
        ("app:Jobs.tarin", "did you mean train?"),
        ("app:NUMBER", "is int and cannot be called"),
        ("app:needs", "needs arguments (table, target)"),
        ("broken:run", "broken cannot be imported: RuntimeError: as it is"),
        ("unset:run", "unset.setup() raised RuntimeError: not ready"),
    ],
)
def test_what_cannot_be_called_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, target: str, words: str
) -> None:
    """A name that leads nowhere, a module that fails, a value, missing arguments: each is told with what to do."""
    (folder / "broken.py").write_text("raise RuntimeError('as it is')")
    (folder / "unset.py").write_text("def setup(): raise RuntimeError('not ready')\ndef run(): pass")
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(TargetError, match=words.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")):
        find_function(target, str(folder))
    for name in ("app", "broken", "unset"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("Jobs.train", "train"),
        ("coroutine", "awaited"),
        ("generator", "run through"),
        ("numbered", 3),
        ("defaulted", 10),
        ("both", 0),
    ],
)
def test_all_sorts_of_functions_are_called(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, left: object
) -> None:
    """After `setup`, a function is called with its number if it asks for one; coroutines are awaited."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("app", None)
    find_function(f"app:{name}", str(folder))(3)
    assert sys.modules.pop("app").calls == ["setup", left]


MIB = 1 << 20


def trail(*mebibytes: float) -> list[tuple[float, int]]:
    return [(float(number), int(each * MIB)) for number, each in enumerate(mebibytes)]


@pytest.mark.parametrize(
    ("sizes", "for_memory", "verdict", "rate"),
    [
        ((20, 70, 110, 150, 190), True, Verdict.LEAKING, 40),
        ((20, 100, 180), True, Verdict.LEAKING, 80),
        ((20, 30, 31, 31, 31), True, Verdict.INCONCLUSIVE, 0),
        ((20,), True, Verdict.INCONCLUSIVE, 0),
        ((20, 70, 110, 150, 190), False, Verdict.INCONCLUSIVE, 0),
        ((), False, Verdict.INCONCLUSIVE, 0),
    ],
)
def test_growth_up_to_the_budget_is_the_verdict(
    sizes: tuple[float, ...], for_memory: bool, verdict: Verdict, rate: int
) -> None:
    """Who grew from iteration to iteration until the budget was reached leaks; one large call or a crash proves nothing."""
    report = report_of_death(trail(*sizes), 200 * MIB, "it died", for_memory=for_memory)
    assert (report.verdict, report.bytes_per_iteration) == (verdict, rate * MIB)
    assert report.evidence[0] == "it died"
    assert report.advice
