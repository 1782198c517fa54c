"""The runbooks are true: every command in them runs against a job that really died, and prints what the page shows."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw
import numpy as np
import pandas as pd
import pytest

from memguard.guard.single import sentinel_of
from memguard.host import children_of, kill_processes, open_fence, probe
from memguard.ledger.records import domain_of
from memguard.ledger.snapshot import take_snapshot
from tests.support.forecasts import keep_missed
from tests.support.guarded import eventually

FOLDER = Path(__file__).resolve().parents[2] / "runbooks"
PAGES = sorted(path.stem for path in FOLDER.glob("*.md") if path.stem != "README")

RUNTIME_DIR = "MEMGUARD_RUNTIME_DIR"
HOG = (sys.executable, "-m", "memguard.testing.hog", "--mib")
FUNCTION_OUT_OF_MEMORY = """
import json
from memguard import MemoryLimitExceeded, MemoryManager
from memguard.report import report_to_json

def take():
    import numpy
    return numpy.zeros((1_000_000, 1_000_000))

with MemoryManager("256MiB") as manager:
    try:
        manager.run(take, name="train", memory="100MiB")
    except MemoryLimitExceeded as error:
        print(json.dumps(report_to_json(error.report)))
"""
# Takes what is reserved for it at first, then so many MiB more, slowly and with no burst; ends with its stdin.
GREEDY = """
import sys, time
kept = [b"x" * (200 << 20)]
for _ in range(int(sys.argv[1])):
    kept.append(b"x" * (1 << 20))
    time.sleep(0.02)
sys.stdin.read()
"""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page and the one that shows its output."""

    line: int
    command: str
    output: str | None


def blocks(page: str) -> Iterator[Block]:
    text = (FOLDER / f"{page}.md").read_text()
    fenced = [
        (text.count("\n", 0, each.start()) + 1, each[1], each[2])
        for each in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]
    for index, (line, kind, content) in enumerate(fenced):
        if kind == "bash":
            following = fenced[index + 1][1:] if index + 1 < len(fenced) else ("", "")
            yield Block(line, content, following[1] if following[0] == "text" else None)


def environment(folder: Path) -> dict[str, str]:
    """Return what a page's commands find: no settings but those of the folder, and a ledger that only tests use."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("MEMGUARD_")}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {} if (folder / "memguard.toml").exists() else {RUNTIME_DIR: os.environ[RUNTIME_DIR]}
    # What this user's jobs used is no part of a page.
    own["XDG_STATE_HOME"] = str(folder / "state")
    return {**bare, **own, "PATH": programs, "LC_ALL": "C.UTF-8", "PYTHONWARNINGS": "ignore"}


def execute(command: list[str], folder: Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,
    )  # type: ignore[call-overload, no-any-return]


def seed_killed(folder: Path) -> None:
    """A command that went over its budget, slowly enough to be looked at while it was near it."""
    budget = ["--memory", "100MiB", "--report", "report.json"]
    hog = ["python", *HOG[1:], "120", "--rate-mib-s", "100"]
    assert execute(["memguard", "run", *budget, "--", *hog], folder).returncode == 137


def seed_out_of_memory(folder: Path) -> None:
    """A function whose one request was refused, and a table for AutoFeat."""
    pytest.importorskip("autofeat")
    done = execute([sys.executable, "-c", FUNCTION_OUT_OF_MEMORY], folder)
    (folder / "report.json").write_text(done.stdout)
    draw = np.random.default_rng(0)
    table = pd.DataFrame(draw.normal(size=(100, 2)), columns=["a", "b"])
    table.assign(target=table["a"] ** 2 + table["b"]).to_csv(folder / "data.csv", index=False)


def seed_short_machine(folder: Path) -> None:
    """A command inside its budget, in a memory cgroup that is too small for it: a machine that is short."""
    pen = open_fence("small-machine", 150 << 20)
    if pen is None:
        pytest.skip(f"no memory cgroup can be made here: {probe().fence.reason}")
    # Without the ledger, which would wait until other programs leave enough, and without whom it would have watched.
    words = [
        "memguard",
        "run",
        "--ledger",
        "off",
        "--memory",
        "140MiB",
        "--report",
        "kernel.json",
        "--",
        *HOG,
        "300",
    ]
    with pen:
        assert execute(words, folder, preexec_fn=pen.enter).returncode == 137


def stated_machine(folder: Path) -> Path:
    """Make the folder one whose commands see a machine of 1 GiB with a ledger of its own; returns the ledger's folder."""
    ledger = folder / "ledger"
    (folder / "memguard.toml").write_text(f'capacity = "1GiB"\nledger = "auto"\nruntime_dir = "{ledger}"\n')
    return ledger


def start_job(folder: Path, name: str, memory: str | None, *command: str) -> subprocess.Popen[bytes]:
    """Start a job that runs until its stdin ends, which `end_jobs` does, and wait until the ledger knows of it."""
    named = ["--memory", memory] if memory else []
    words = ["memguard", "run", "-q", *named, "--name", name, "--", *command]
    process = subprocess.Popen(
        words, cwd=folder, env=environment(folder), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    _jobs.append(process)
    assert eventually(lambda: name in [lease.name for lease in take_snapshot(folder / "ledger", "").leases])
    return process


def started(job: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Wait until a job's command runs."""
    assert eventually(lambda: children_of(job.pid))
    return job


def seed_waiting(folder: Path) -> None:
    """A command that holds more than half of a stated machine until `end_jobs`, and one that waits for as much."""
    stated_machine(folder)
    for name in ("train", "tune"):
        start_job(folder, name, "600MiB", "/bin/sh", "-c", "read line")


def wait_for_state(folder: Path, name: str, state: str) -> None:
    """Wait until the sentinel asks of a job what the state says."""

    def is_so() -> bool:
        seen = execute(["memguard", "status", "--json"], folder)
        return (name, state) in [(each["name"], each["state"]) for each in json.loads(seen.stdout)["jobs"]]

    assert eventually(is_so)


def seed_throttled(folder: Path) -> None:
    """A command that keeps to what it named, one that outgrew what was reserved and is frozen, and one run twice."""
    stated_machine(folder)
    budget = ["--memory", "64MiB", "--retries", "1", "--name", "liar", "--report", "report.json"]
    assert execute(["memguard", "run", "-q", *budget, "--", *HOG, "75"], folder).returncode == 0
    start_job(folder, "train", "640MiB", *HOG, "560", "--wait-for-stdin")
    start_job(folder, "tune", None, sys.executable, "-c", GREEDY, "300")
    wait_for_state(folder, "tune", "frozen")


def seed_short_of_memory(folder: Path) -> None:
    """A command that outgrew what was reserved for it, and one that took all it had named; and a kill by the kernel."""
    stated_machine(folder)
    seed_short_machine(folder)
    start_job(folder, "train", "690MiB", *HOG, "670", "--rate-mib-s", "400", "--wait-for-stdin")
    greedy = [sys.executable, "-c", GREEDY, "300"]
    words = ["memguard", "run", "--name", "tune", "--report", "report.json", "--", *greedy]
    assert execute(words, folder, stdin=subprocess.DEVNULL).returncode == 137


def seed_unwatched(folder: Path) -> None:
    """A command whose guard is stopped, so that it starts no sentinel in place of the one that was killed."""
    ledger = stated_machine(folder)
    job = started(start_job(folder, "train", "200MiB", "/bin/sh", "-c", "read line"))
    assert eventually(lambda: "looked" in execute(["memguard", "status"], folder).stdout)
    who = sentinel_of(ledger, domain_of("", "1GiB"))
    assert who is not None
    os.kill(job.pid, signal.SIGSTOP)
    assert kill_processes([(who.pid, who.start_ticks)])
    assert eventually(lambda: "none looks" in execute(["memguard", "status"], folder).stdout)


def seed_damaged(folder: Path) -> None:
    """A ledger that was overwritten while a command ran, one of a newer version, and one that others can write."""
    ledger = stated_machine(folder)
    for name in ("newer", "foreign"):
        (folder / name).mkdir(mode=0o700)
    (folder / "foreign").chmod(0o777)
    connection = apsw.Connection(str(folder / "newer" / "ledger.sqlite"))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    foreign = ["--memory", "100MiB", "--report", "report.json", "--", "true"]
    assert execute(["env", f"{RUNTIME_DIR}=foreign", "memguard", "run", *foreign], folder).returncode == 0
    started(start_job(folder, "train", "600MiB", "/bin/sh", "-c", "read line"))
    for each in ("ledger.sqlite", "ledger.sqlite-wal"):
        (ledger / each).write_bytes(b"no database" * 1000)
    assert eventually((ledger / "ledger.sqlite.damaged").exists)
    assert eventually(lambda: take_snapshot(ledger, "").leases)


def seed_full_namespace(folder: Path) -> None:
    """A namespace with a budget, of which an add was refused."""
    from memguard.episodes import Episode, EpisodeStore

    with EpisodeStore(folder / "store") as store:
        store.set_namespace("notes", budget="64KiB")
        ids = store.add_episodes(
            Episode(text=f"{number:03} " + "x" * 760, namespace="notes") for number in range(40)
        )
        for each in ids:
            store.update(each, text="again " + "y" * 766)
    refused = execute(
        ["memguard", "episodes", "add", "z" * 9000, "--store", "store", "--namespace", "notes"], folder
    )
    assert refused.returncode == 2
    assert "memguard runbook EpisodesOverBudget" in refused.stderr


def seed_turned_bits(folder: Path) -> None:
    """A store in which one bit of a vector turned, and one of what is derived from another."""
    from memguard.episodes import Episode, EpisodeStore
    from tests.support.episodes import vectors

    made = vectors(400)
    with EpisodeStore(folder / "store") as store:
        store.add_episodes(Episode(text=f"note {at} of a long day", vector=made[at]) for at in range(400))
    for name, at in (("1.f32", 1000), ("1.bits", 100)):
        content = bytearray((folder / "store" / "vectors" / name).read_bytes())
        content[at] ^= 64
        (folder / "store" / "vectors" / name).write_bytes(content)
    told = execute(["memguard", "episodes", "check", "--store", "store"], folder)
    assert "memguard runbook EpisodesDamaged" in told.stderr


STOPPED_WRITER = """
import os, signal, sys
from memguard.episodes import Episode, EpisodeStore
store = EpisodeStore("store")
store.add_episodes(Episode(text=f"note {number} of a long day") for number in range(2000))
with store._database.transaction():
    print("writing", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
sys.stdin.read()
"""


def seed_stopped_writer(folder: Path) -> None:
    """A process that was stopped in the midst of writing."""
    words = [sys.executable, "-c", STOPPED_WRITER]
    process = subprocess.Popen(words, cwd=folder, env=environment(folder), stdin=-1, stdout=-1)
    _jobs.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


def seed_missed_forecasts(folder: Path) -> None:
    """A kind whose last jobs used more than forecast, and one more of it, by which the rate is no longer kept."""
    where = f'runtime_dir = "{os.environ[RUNTIME_DIR]}"'
    (folder / "memguard.toml").write_text(f'episodes = "{folder}/store"\n{where}\n')
    (folder / "train.py").write_text("held = bytearray(250 << 20)\n")
    python = str(Path(sys.executable).parent / "python")
    keep_missed(folder / "store", (python, str(folder / "train.py"), "--rows", "1000"))
    words = ["--report", "report.json", "--name", "train", "--", "python", "train.py", "--rows", "1000"]
    told = execute(["memguard", "run", *words], folder)
    assert told.returncode == 0
    assert "memguard runbook ForecastMissed" in told.stderr


def end_jobs() -> None:
    """End what `start_job` has started, one after the other, as it can."""
    for process in _jobs:
        process.send_signal(signal.SIGCONT)
    while _jobs:
        process = _jobs.pop(0)
        process.communicate(b"", timeout=60)
        assert process.returncode in (0, 1)  # `read` at the end of its input


_jobs: list[subprocess.Popen[bytes]] = []

SEEDS: dict[str, Callable[[Path], None]] = {
    "EpisodesDamaged": seed_turned_bits,
    "EpisodesIndexStalled": seed_stopped_writer,
    "EpisodesOverBudget": seed_full_namespace,
    "ForecastMissed": seed_missed_forecasts,
    "JobKilledForBudget": seed_killed,
    "JobOutOfMemory": seed_out_of_memory,
    "JobThrottled": seed_throttled,
    "JobWaiting": seed_waiting,
    "LeakSuspected": seed_killed,
    "LedgerDamaged": seed_damaged,
    "MachineShortOfMemory": seed_short_of_memory,
    "SentinelGone": seed_unwatched,
}


@pytest.mark.requirement("R6.4")
@pytest.mark.parametrize("page", PAGES)
def test_every_command_works_and_prints_what_the_page_shows(page: str, tmp_path: Path) -> None:
    """Each block runs in a strict shell after a job that died as the page says, and its output is the one shown."""
    try:
        SEEDS[page](tmp_path)
        found = list(blocks(page))
        assert found
        for block in found:
            done = execute(["bash", "-euo", "pipefail", "-c", block.command], tmp_path)
            where = f"{page}.md:{block.line}"
            assert done.returncode == 0, f"{where} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            missing = first_difference(block.output or "", done.stdout)
            assert missing is None, f"{where}: no line like {missing!r} in\n{done.stdout}"
    finally:
        end_jobs()


def first_difference(shown: str, printed: str) -> str | None:
    """Return the first shown line that is not among the printed ones, in order; ``None`` if all are."""
    lines = iter(printed.splitlines())
    for line in filter(None, (line.strip() for line in shown.splitlines())):
        pattern = re.compile(as_pattern(line))
        if not any(pattern.fullmatch(each.strip()) for each in lines):
            return line
    return None


# A bar; text that is left out; a figure with its unit, which differs from run to run; blanks that align columns.
_ELASTIC = re.compile(
    r"(?P<bar>\[[#.]+\])|(?P<any>\.\.\.)|(?P<blank>\s+)"
    r"|(?P<figure>\b\d+(?:\.\d+)?(?: ?(?:B|[KMGT]iB|ms|s|min|h)\b|%))"
)
_PATTERNS = {
    "bar": r"\[[#.]+\]",
    "any": r".*",
    "figure": r"\d+(?:\.\d+)?(?: ?(?:B|[KMGT]iB|ms|s|min|h)\b|%)",
    "blank": r"\s+",
}


def as_pattern(line: str) -> str:
    """Return a pattern for a shown line: literal but for what differs from run to run."""
    pattern, end = "", 0
    for match in _ELASTIC.finditer(line):
        pattern += re.escape(line[end : match.start()]) + _PATTERNS[match.lastgroup or ""]
        end = match.end()
    return pattern + re.escape(line[end:])


def test_the_comparison_is_strict_where_it_should_be() -> None:
    """Figures and what is left out may differ; words, order and missing lines may not."""
    printed = "peak  [##..] 100 MiB = 97% of budget\nexit status 137\nready\n"
    assert first_difference("peak [#...] 3.5 GiB = 4% of budget\nready", printed) is None
    assert first_difference("peak ... of budget", printed) is None
    assert first_difference("exit status 1", printed) == "exit status 1"
    assert first_difference("ready\nexit status 137", printed) == "exit status 137"
    assert first_difference("peak [#...] 100 MiB", printed) == "peak [#...] 100 MiB"
