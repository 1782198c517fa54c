"""What a job finds around it is what its caller has at the moment of the call; what it does there stays its own."""

from __future__ import annotations

import io
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memguard import MemoryManager, current_job
from memguard.worker.templates import TemplatePool
from tests.support.guarded import Guarded, by_value, eventually, guarded, run_python, unchanged_caller

by_value(__name__)


@pytest.fixture(scope="module")
def jobs() -> Iterator[Guarded]:
    with guarded("1GiB", grace="1s") as manager:
        yield manager


@contextmanager
def redirected(number: int, path: Path) -> Iterator[None]:
    """Send a descriptor of this process to a file for a while."""
    kept = os.dup(number)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, number)
    os.close(file)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)


def test_environment_directory_and_path_are_those_of_the_call(
    jobs: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes that the caller made since its template was started are seen; what the job changes is not."""

    def look() -> tuple[Any, ...]:
        found = (
            os.environ.get("COLOUR"),
            os.environ.get("GONE"),
            os.getcwd(),
            sys.path[0],
            os.getenv("COLOUR"),
        )
        os.environ["COLOUR"] = "of the job"
        os.chdir("/")
        sys.path.insert(0, "/nowhere")
        shown = subprocess.run(
            ["sh", "-c", "echo $COLOUR"], capture_output=True, text=True, check=True
        ).stdout
        return (*found, shown.strip())

    monkeypatch.setenv("GONE", "soon")
    jobs.value(int)
    monkeypatch.delenv("GONE")
    monkeypatch.setenv("COLOUR", "blue")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("/some/place")
    expected = ("blue", None, str(tmp_path), "/some/place", "blue", "of the job")
    assert [jobs.value(look) for _ in range(2)] == [expected] * 2
    assert os.environ["COLOUR"] == "blue"
    assert Path.cwd() == tmp_path


def test_umask_limits_and_time_zone_are_those_of_the_call(
    jobs: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the caller set of its process since its template was started holds for a job, as it would for a child."""

    def look(path: Path) -> tuple[int, int, int]:
        path.touch()
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return path.stat().st_mode & 0o777, soft, time.localtime(0).tm_hour

    jobs.value(int)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = os.umask(0o077)
    monkeypatch.setenv("TZ", "UTC-5")
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[0] - 7, limits[1]))
        assert jobs.value(look, tmp_path / "mine") == (0o600, limits[0] - 7, 5)
        os.umask(0o002)
        assert jobs.value(look, tmp_path / "shared")[0] == 0o664
        assert os.umask(0o002) == 0o002
    finally:
        os.umask(before)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


class Tee:
    """What notebooks and test runners put in the place of a stream: it can write, and hardly more."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, text: str) -> int:
        self.written.append(text)
        return len(text)


class FlushingTee(Tee):
    def flush(self) -> None:
        self.written.append("flushed")


class BrokenTee(Tee):
    def flush(self) -> None:
        raise OSError("the other end is gone")


def closed_file() -> Any:
    file = io.StringIO()
    file.close()
    return file


@pytest.mark.parametrize("make", [Tee, FlushingTee, BrokenTee, closed_file, lambda: None])
def test_any_stream_will_do(jobs: Guarded, monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    """Whatever stands for ``sys.stdout``, in the caller or in the job: a job runs, and what can be flushed is."""

    def replaced() -> int:
        sys.stdout = sys.stderr = make()
        return 7

    stream = make()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    assert jobs.value(abs, -3) == 3
    assert jobs.value(replaced) == 7
    if isinstance(stream, FlushingTee):
        assert "flushed" in stream.written


def test_a_directory_that_is_gone_is_no_obstacle(jobs: Guarded, tmp_path: Path) -> None:
    """A caller whose working directory was removed can still run jobs."""
    here, lost = Path.cwd(), tmp_path / "lost"
    lost.mkdir()
    os.chdir(lost)
    lost.rmdir()
    try:
        assert jobs.value(abs, -3) == 3
    finally:
        os.chdir(here)


def test_output_goes_where_the_callers_goes(jobs: Guarded, tmp_path: Path) -> None:
    """Standard output and error of a job are the caller's at the moment of the call, in order with its own."""

    def speak(word: str) -> None:
        print(f"{word} from Python", flush=True)  # noqa: T201
        os.write(2, f"{word} below Python\n".encode())
        subprocess.run(["echo", word, "from a child"], check=True)

    for word in ("first", "second"):
        out, err = tmp_path / f"{word}.out", tmp_path / f"{word}.err"
        with redirected(1, out), redirected(2, err):
            os.write(1, b"before\n")
            jobs.value(speak, word)
            os.write(1, b"after\n")
        assert out.read_text() == f"before\n{word} from Python\n{word} from a child\nafter\n"
        assert err.read_text() == f"{word} below Python\n"


def test_a_jobs_output_is_written_however_it_ends(jobs: Guarded, tmp_path: Path) -> None:
    """What a job printed before it raised is there."""

    def fail() -> None:
        print("so far")  # noqa: T201
        raise ValueError

    with redirected(1, tmp_path / "out"):
        jobs.run(fail)
    assert (tmp_path / "out").read_text() == "so far\n"


def test_a_caller_without_streams_runs_jobs(tmp_path: Path) -> None:
    """A daemon, with its standard streams closed, runs jobs that print; nothing is written to a wrong file."""
    program = f"""
import os
for number in (0, 1, 2):
    os.close(number)
from memguard import MemoryManager
def speak():
    print("into the void", flush=True)
    os.write(2, b"too")
    return 7
with MemoryManager("200MiB") as manager:
    value = manager.run(speak).value
    again = manager.run(speak).value
file = os.open({str(tmp_path / "out")!r}, os.O_WRONLY | os.O_CREAT)
os.write(file, str((value, again)).encode())
"""
    done = run_python(program)
    assert done.returncode == 0
    assert (tmp_path / "out").read_text() == "(7, 7)"


def test_a_job_reads_nothing_from_the_callers_input(jobs: Guarded) -> None:
    """Standard input is empty: a job never takes what was meant for the caller."""
    reader, writer = os.pipe()
    kept = os.dup(0)
    os.write(writer, b"for the caller\n")
    os.dup2(reader, 0)
    try:
        assert jobs.value(lambda: os.read(0, 100)) == b""
        assert os.read(0, 100) == b"for the caller\n"
    finally:
        os.dup2(kept, 0)
        for each in (reader, writer, kept):
            os.close(each)


def test_each_job_draws_numbers_of_its_own(jobs: Guarded) -> None:
    """Jobs forked from one template do not share the state of a random generator."""

    def draw() -> tuple[float, float]:
        return random.random(), float(np.random.random())

    drawn = [jobs.value(draw) for _ in range(3)]
    assert len({one for one, _ in drawn}) == 3
    assert len({other for _, other in drawn}) == 3


def test_a_job_has_default_signal_handling(jobs: Guarded) -> None:
    """What the caller or the template did to signals is not inherited."""

    def look() -> tuple[Any, ...]:
        names = (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return tuple(signal.getsignal(each) for each in names), len(blocked), signal.getsignal(signal.SIGINT)

    previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        with guarded("300MiB") as fresh:
            handlers, blocked, interrupt = fresh.value(look)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        signal.signal(signal.SIGTERM, previous)
    assert handlers == (signal.SIG_DFL, signal.SIG_DFL, signal.SIG_DFL, signal.SIG_IGN)
    assert blocked == 0
    assert interrupt is signal.default_int_handler


def test_the_main_thread_runs_the_job(jobs: Guarded) -> None:
    """A job may set signal handlers and start threads and processes: it runs in a main thread, alone."""

    def look() -> tuple[bool, int, int | None]:
        signal.signal(signal.SIGUSR1, lambda *_: None)
        with __import__("multiprocessing").get_context("fork").Pool(2) as pool:
            total = sum(pool.map(abs, [-1, -2]))
        return threading.current_thread() is threading.main_thread(), threading.active_count(), total

    assert jobs.value(look)[::2] == (True, 3)


def test_a_job_may_note_and_say_anything(jobs: Guarded) -> None:
    """What a job tells never fails it: arrays, numbers that are none, names that are no text."""

    def tell() -> int:
        job = current_job()
        assert job is not None
        job.note("shape", np.arange(3))
        job.note("rows", np.int64(3))
        job.note("loss", float("nan"))
        job.phase(7)
        job.progress("half")
        job.warn(ValueError("odd"))
        return 1

    result = jobs.run(tell)
    assert result.value == 1
    assert result.report.notes == {"shape": "[0 1 2]", "rows": 3, "loss": "nan"}
    assert [each.name for each in result.report.phases] == ["7"]


def test_a_job_within_a_job(jobs: Guarded) -> None:
    """A job may open a manager of its own, bound by its budget, and run jobs in it."""

    def outer() -> tuple[int, int, str]:
        with MemoryManager() as manager:
            result = manager.run(os.getpid, memory="64MiB")
            return manager.budget.limit_bytes, result.value, manager.budget.source

    limit, pid, source = jobs.value(outer, memory="250MiB", name="whole")
    assert limit == 250 * 1024**2
    assert pid != os.getpid()
    assert source == "all of the budget of job whole"


def test_outside_of_a_job_there_is_no_context() -> None:
    """The caller itself is no job."""
    assert current_job() is None


def test_settings_of_thread_pools_reach_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that libraries read once, at import, makes a new template; the old one ends."""
    with guarded("300MiB") as jobs:
        first = jobs.template_pid
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        for number in range(3):
            monkeypatch.setenv("NUMBA_SEED", str(number))
            jobs.value(int)
        assert jobs.template_pid != first
        assert eventually(jobs.is_idle), jobs.processes()


def test_the_template_gets_what_a_job_uses(jobs: Guarded) -> None:
    """Packages that a function names are imported before the fork: the job finds them loaded."""

    def loaded() -> bool:
        return "pandas" in sys.modules

    def names_pandas() -> bool:
        import pandas  # noqa: F401, ICN001

        return loaded()

    def found_before() -> bool:
        before = loaded()
        names_pandas()
        return before

    assert jobs.value(found_before) is True


def test_closing_twice_and_using_after() -> None:
    """A manager may be closed more than once; a job after that is refused by name, and leaves nothing open."""
    with unchanged_caller():
        manager = MemoryManager("200MiB")
        manager.run(int, memory="64MiB")
        manager.close()
        manager.close()
        with pytest.raises(RuntimeError, match="the manager is closed"):
            manager.run(int, memory="64MiB")


def test_a_template_that_cannot_import_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that ends the interpreter on import is named, with what to try; nothing is left."""
    (tmp_path / "fatal_module.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    told = "died with status 3 while importing fatal_module; try .*import fatal_module"
    with unchanged_caller():
        pool = TemplatePool()
        with pytest.raises(RuntimeError, match=told):
            pool.template_for(frozenset({"fatal_module"}))
        assert pool.template_for(frozenset()).modules == frozenset()
        pool.close()


def test_a_module_that_is_missing_is_the_jobs_own_error(jobs: Guarded) -> None:
    """A module that fails to import in the template fails in the job, in the user's line."""

    def use() -> None:
        import no_such_module  # noqa: F401  # type: ignore[import-not-found]

    assert isinstance(jobs.run(use, preload=("no_such_module",)).error, ModuleNotFoundError)
