"""Two users of one machine: a ledger and a sentinel each, closed to the other, and room for what both really use."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memguard.guard.single import sentinel_of
from memguard.host import Fence, is_alive, kill_processes
from memguard.host.readings import ProcessIdentity
from tests.support.pens import pen
from tests.support.programs import HOLDS
from tests.support.users import FIRST, SECOND, as_user, why_not

MIB = 1024**2
MEMGUARD = str(Path(sys.executable).with_name("memguard"))


class User:
    """Somebody with a folder of his own, who runs commands in the machine of the test."""

    def __init__(self, kit: Any, uid: int, home: Path, machine: Fence) -> None:
        self._kit, self.uid, self._machine = kit, uid, machine
        self.folder = home / "memguard"
        home.mkdir()
        os.chown(home, uid, uid)

    @property
    def environment(self) -> dict[str, str]:
        return {"MEMGUARD_RUNTIME_DIR": str(self.folder), "MEMGUARD_LEDGER": "auto"}

    def start(self, *words: str, **environment: str) -> Any:
        """Start a program as this user, inside of the machine."""
        return self._kit.start(
            *as_user(self.uid, *words),
            environment={**self.environment, **environment},
            preexec_fn=self._machine.enter,
            cwd="/",
            stdin=subprocess.PIPE,
        )

    def hold(self, mib: int, *flags: str, **environment: str) -> Any:
        """Start a wrapped command that holds so much."""
        command = (sys.executable, "-I", "-S", "-c", HOLDS, str(mib))
        return self.start(MEMGUARD, "run", *flags, "--", *command, **environment)

    def run(self, *words: str, **environment: str) -> Any:
        """Run a program as this user to its end."""
        return self._kit.finish(self.start(*words, **environment), b"")

    def told(self, what: str, field: str) -> list[str]:
        """What ``memguard status`` shows him."""
        done = self.run(MEMGUARD, "status", "--json")
        assert (done.returncode, done.stderr) == (0, b"")
        return [each[field] for each in json.loads(done.stdout)[what]]

    def sentinel(self) -> ProcessIdentity | None:
        """His sentinel in this machine, if it lives."""
        who = sentinel_of(self.folder, self._machine.path)
        return who if who is not None and is_alive(who) else None

    def leave(self) -> None:
        """End the sentinel, which would stay for some seconds yet."""
        if who := self.sentinel():
            kill_processes([(who.pid, who.start_ticks)])


@pytest.fixture
def machine() -> Iterator[Fence]:
    """A machine of 512 MiB."""
    if reason := why_not():
        pytest.skip(reason)
    with pen(512 * MIB) as fence:
        yield fence


@pytest.fixture
def users(kit: Any, machine: Fence) -> Iterator[tuple[User, User]]:
    """Two users of it, neither of them root."""
    homes = Path(tempfile.mkdtemp(prefix="memguard-users-"))
    homes.chmod(0o755)
    pair = User(kit, FIRST, homes / "first", machine), User(kit, SECOND, homes / "second", machine)
    try:
        yield pair
    finally:
        kit.end()
        for each in pair:
            each.leave()
        shutil.rmtree(homes)


def is_ready(kit: Any, process: Any) -> bool:
    word = kit.line(process.stdout)
    assert word == "ready", kit.finish(process).stderr.decode()
    return True


def uid_of(who: ProcessIdentity) -> int:
    return os.stat(f"/proc/{who.pid}").st_uid


@pytest.mark.requirement("R2.4", "R6.3")
def test_each_has_a_ledger_and_a_sentinel_of_his_own(kit: Any, users: tuple[User, User]) -> None:
    """Neither sees the other's jobs, reads or changes his files, or can end who watches for him."""
    first, second = users
    jobs = [each.hold(10, "--memory", "60MiB", "--name", f"of-{each.uid}") for each in users]
    assert all(is_ready(kit, job) for job in jobs)
    for each in users:
        kit.wait_until(each.sentinel, "each has a sentinel")
        who = each.sentinel()
        assert who is not None
        assert uid_of(who) == each.uid
        assert each.told("jobs", "name") == [f"of-{each.uid}"]
        entries = [each.folder, *each.folder.iterdir()]
        assert {entry.stat().st_uid for entry in entries} == {each.uid}
        assert {stat.S_IMODE(entry.stat().st_mode) & 0o022 for entry in entries} == {0}
        assert stat.S_IMODE(each.folder.stat().st_mode) == 0o700
    who = first.sentinel()
    assert who is not None
    ledger = first.folder / "ledger.sqlite"
    for attempt in (
        f"ls {first.folder}",
        f"cat {ledger}",
        f"echo x > {ledger}",
        f"echo x > {first.folder}/new",
        f"mv {first.folder} {first.folder}.away",
        f"kill -9 {who.pid}",
    ):
        done = second.run("/bin/sh", "-c", attempt)
        assert done.returncode != 0, attempt
        assert b"ermi" in done.stderr, attempt
    assert (first.sentinel(), first.told("jobs", "name")) == (who, [f"of-{first.uid}"])
    assert [kit.finish(job, b"").returncode for job in jobs] == [0, 0]


@pytest.mark.requirement("R2.4", "R1.3")
def test_what_one_uses_is_not_given_to_the_other(kit: Any, users: tuple[User, User]) -> None:
    """No book tells of the other's job, but its memory is in use: who wants it too waits, and gets it when it is free."""
    first, second = users
    job = first.hold(250, "--memory", "300MiB")
    assert is_ready(kit, job)
    assert second.told("jobs", "name") == []
    refused = second.run(MEMGUARD, "run", "--memory", "250MiB", "--wait", "0", "-q", "--", "true")
    assert refused.returncode == 125
    assert b"waited for 250 MiB" in refused.stderr
    assert b"no job of memguard's: other programs use it" in refused.stderr
    fits = second.run(MEMGUARD, "run", "--memory", "40MiB", "--wait", "0", "--", "sh", "-c", "exit 7")
    assert fits.returncode == 7
    late = second.hold(200, "--memory", "250MiB", "--name", "late")
    assert "waits for 250 MiB" in kit.line(late.stderr)
    assert kit.finish(job, b"").returncode == 0
    assert is_ready(kit, late)
    assert kit.finish(late, b"").returncode == 0


@pytest.mark.parametrize("fault", ["another's", "of a group", "open to all"])
def test_a_folder_that_another_one_could_change_is_refused(users: tuple[User, User], fault: str) -> None:
    """The command runs without a ledger and says so; nothing is read from that folder, and nothing written."""
    first, second = users
    first.folder.mkdir()
    first.folder.chmod({"another's": 0o755, "of a group": 0o770, "open to all": 0o777}[fault])
    owner, why = (second, "belongs to user") if fault == "another's" else (first, "can be written by others")
    os.chown(first.folder, owner.uid, owner.uid)
    done = first.run(MEMGUARD, "run", "--", "sh", "-c", "exit 7")
    assert done.returncode == 7
    assert f"{first.folder} {why}".encode() in done.stderr
    assert b"runs without a reservation" in done.stderr
    assert list(first.folder.iterdir()) == []


def test_the_place_where_everybody_may_make_folders_is_as_safe(users: tuple[User, User]) -> None:
    """Without a setting each has a folder of his name in /dev/shm; one that another one made there is not taken."""
    first, second = users
    place = Path(f"/dev/shm/memguard-{first.uid}")
    assert not place.exists(), "left by an earlier run that was killed?"
    told = (
        "env",
        "-u",
        "MEMGUARD_RUNTIME_DIR",
        MEMGUARD,
        "run",
        "--",
        "sh",
        "-c",
        f"stat -c '%U %a' {place}; exit 7",
    )
    try:
        done = first.run(*told)
        assert (done.returncode, done.stdout.split()[1:], done.stderr) == (7, [b"700"], b"")
        shutil.rmtree(place)
        assert second.run("mkdir", str(place)).returncode == 0
        done = first.run(*told)
        assert done.returncode == 7
        assert f"belongs to user {second.uid}".encode() in done.stderr
        assert list(place.iterdir()) == []
    finally:
        shutil.rmtree(place, ignore_errors=True)


# Takes memory slowly and for ever, with no burst.
GREEDY = """
import sys, time
kept = []
while True:
    kept.append(b"x" * (1 << 20))
    time.sleep(0.002)
"""


@pytest.mark.requirement("R2.4", "R6.2")
def test_who_takes_too_much_is_ended_by_his_own_sentinel(
    kit: Any, machine: Fence, users: tuple[User, User]
) -> None:
    """It fills the machine that both use: it is ended before the kernel kills anybody, and the other's job goes on."""
    first, second = users
    honest = first.hold(100, "--memory", "120MiB", "--name", "honest")
    assert is_ready(kit, honest)
    greedy = second.start(MEMGUARD, "run", "--name", "greedy", "--", sys.executable, "-I", "-S", "-c", GREEDY)
    done = kit.finish(greedy)
    assert done.returncode == 137, done.stderr
    assert machine.read().oom_kills == 0
    assert honest.poll() is None
    assert kit.finish(honest, b"").returncode == 0
    assert b"greedy" in done.stderr
    assert b"the machine's memory ran short" in done.stderr
    assert b" of 512 MiB in use; it uses " in done.stderr
    assert [first.told("actions", "name"), set(second.told("actions", "name"))] == [[], {"greedy"}]
