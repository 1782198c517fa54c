"""A command's budget: told of before, enforced, explained, and divided among those inside it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import memguard
from memguard.events import EVENTS
from memguard.host import FenceError, open_fence
from memguard.units import parse_bytes

MEMGUARD = os.path.join(os.path.dirname(sys.executable), "memguard")
BARE = (sys.executable, "-I", "-S", "-c")
MIB = 1024**2
FENCES = ("auto", "rlimit", "none")
# Takes memory line by line: the number of MiB to hold from now on.
BOUNDED = """
import os, sys
os.write(1, b"ready\\n")
for line in sys.stdin:
    taken = None
    taken = bytearray(int(line) << 20)
    os.write(1, b"taken\\n")
"""


def schema() -> dict[str, Any]:
    return dict(json.loads((Path(memguard.__file__).parent / "schemas" / "report-1.json").read_text()))


@pytest.mark.requirement("R2.2")
@pytest.mark.parametrize("fence", FENCES)
def test_it_is_warned_before_it_is_killed(kit: Any, fence: str) -> None:
    """Use of 85 % is told on stderr while the command goes on; what passes the budget afterwards is killed."""
    process = kit.guard(
        "--memory",
        "200MiB",
        "--",
        *BARE,
        BOUNDED,
        environment={"MEMGUARD_FENCE": fence},
        stdin=subprocess.PIPE,
    )
    assert kit.line(process.stdout) == "ready"
    process.stdin.write(b"165\n")
    process.stdin.flush()
    assert kit.line(process.stdout) == "taken"
    warning = kit.line(process.stderr)
    assert re.fullmatch(r"memguard: use reached 1[67]\d(\.\d)? MiB, 8\d% of the budget of 200 MiB", warning)
    done = kit.finish(process, b"400\n")
    assert done.returncode == 137


@pytest.mark.requirement("R2.1", "R5.4", "R6.4")
@pytest.mark.parametrize("fence", FENCES)
def test_a_kill_is_told_in_seven_parts(kit: Any, hog: Any, fence: str) -> None:
    """Status 137; stderr and report tell who, how much, why now, why this one, what is saved, what next, and where."""
    words = [*hog, "--mib", "400", "--rate-mib-s", "800"]
    done, report = kit.report(
        "--memory", "150MiB", "--name", "eater", "--", *words, environment={"MEMGUARD_FENCE": fence}
    )
    assert done.returncode == report["exit_status"] == 137
    death, told = report["death"], done.stderr.decode()
    assert list(death) == [
        "who",
        "how_much",
        "why_now",
        "why_this_one",
        "what_is_saved",
        "what_next",
        "where",
    ]
    for part in ("who", "how_much", "why_now", "why_this_one", "what_is_saved", "where"):
        assert death[part]
        assert death[part] in told
    assert death["what_next"]
    assert all(advice in told for advice in death["what_next"])
    assert death["who"].startswith("eater (")
    assert "150 MiB" in death["how_much"]
    assert "reached its budget" in death["why_now"]
    setting = re.search(r"--memory (\d+(\.\d)?MiB)", death["what_next"][0])
    assert setting is not None
    assert parse_bytes(setting[1]) >= 225 * MIB
    assert "JobKilledForBudget" in death["where"]
    assert "report-0.json" in death["where"]


@pytest.mark.requirement("R5.4")
@pytest.mark.parametrize("fence", FENCES)
def test_the_report_is_true_and_valid(kit: Any, hog: Any, fence: str) -> None:
    """The report fits its schema, its peak is what the command took, its times and figures add up."""
    done, report = kit.report(
        "--memory",
        "400MiB",
        "--",
        *hog,
        "--mib",
        "200",
        "--hold-seconds",
        "0.6",
        environment={"MEMGUARD_FENCE": fence},
    )
    jsonschema.validate(report, schema())
    assert (done.returncode, report["exit_status"], report["outcome"]) == (0, 0, "completed")
    assert 200 * MIB < report["peak_bytes"] < 235 * MIB
    assert report["utilisation"] == pytest.approx(report["peak_bytes"] / (400 * MIB), abs=0.001)
    assert report["duration_s"] >= 0.6
    assert report["budget"]["limit_bytes"] == 400 * MIB
    assert report["budget"]["fence"] == {"auto": _fence_kind(), "rlimit": "rlimit", "none": "watch"}[fence]
    assert report["what"] == " ".join([*hog, "--mib", "200", "--hold-seconds", "0.6"])
    assert report["kind"] == "command"
    assert report["cleanup"]["verified"]
    assert report["warnings"] == []
    assert report["guard_degraded"] == []


def _fence_kind() -> str:
    fence = open_fence("probe", 64 * MIB)
    if fence is None:
        return "rlimit"
    fence.remove()
    return fence.kind


def test_quiet_says_nothing_and_json_comes_last(kit: Any, hog: Any) -> None:
    """With -q a killed command is told of by the status and by --json, one line on stdout after the command's own."""
    script = 'echo own words; exec "$@"'
    words = ("/bin/sh", "-c", script, "sh", *hog, "--mib", "300")
    done = kit.run("-q", "--json", "--memory", "100MiB", "--", *words)
    first, last = done.stdout.decode().splitlines()
    report = json.loads(last)
    jsonschema.validate(report, schema())
    assert (done.returncode, done.stderr, first) == (137, b"", "own words")
    assert (report["outcome"], report["exit_status"]) == ("budget_kill", 137)


def test_nothing_is_said_of_a_command_that_ends_well(kit: Any, hog: Any) -> None:
    """Without options memguard adds no byte to the output of a command within its budget."""
    done = kit.run("--", *hog, "--mib", "20")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"ready\n", b"")


@pytest.mark.usefixtures("needs_fence")
def test_the_kernels_kill_above_the_budget_is_137_and_named_so(kit: Any, hog: Any) -> None:
    """In a cgroup of 150 MiB a command with a budget of 140 MiB and another with it: the kernel's kill is `kernel_oom`."""
    outer = open_fence("outer", 160 * MIB)
    assert outer is not None
    try:
        # Beside the wrapped command another process of the same cgroup holds memory, so that the outer limit comes first.
        script = (
            f"echo $$ > {outer.path}/cgroup.procs; {' '.join(hog)} --mib 60 --hold-seconds 30 >&2 & read line <&3; "
            f'MEMGUARD_LEDGER=off {MEMGUARD} run --memory 130MiB --report r.json -- {" ".join(hog)} --mib 120; echo "status $?"; kill $!'
        )
        neighbour_ready, says = os.pipe()
        process = kit.start(
            "/bin/bash",
            "-c",
            f"exec 3<&{neighbour_ready}; {script}",
            pass_fds=(neighbour_ready,),
            stderr=says,
        )
        os.close(neighbour_ready)
        os.close(says)
        done = kit.finish(process)
        report = json.loads((kit.folder / "r.json").read_text())
    finally:
        _empty(outer)
    assert done.stdout == b"status 137\n"
    assert report["outcome"] == "kernel_oom"
    assert report["peak_bytes"] < 130 * MIB
    assert "MachineShortOfMemory" in report["death"]["where"]


def _empty(fence: Any) -> None:
    try:
        fence.kill_all()
    except FenceError:
        pass
    finally:
        fence.remove()


@pytest.mark.parametrize("fence", FENCES)
def test_a_budget_within_a_budget(kit: Any, fence: str) -> None:
    """Inside a wrapped command an equal or smaller budget is given, all of the outer one by default, a larger refused."""
    script = f"""
for size in '--memory 200MiB' '--memory 50%' '' '--memory 201MiB'; do
  {MEMGUARD} run $size --json -- true; echo "status $?"
done
"""
    done = kit.run("--memory", "200MiB", "--", "/bin/sh", "-c", script, environment={"MEMGUARD_FENCE": fence})
    lines = done.stdout.decode().splitlines()
    budgets = [json.loads(line)["budget"]["limit_bytes"] for line in lines if line.startswith("{")]
    assert budgets == [200 * MIB, 100 * MIB, 200 * MIB]
    assert [line for line in lines if line.startswith("status")] == ["status 0"] * 3 + ["status 2"]
    (error,) = done.stderr.decode().splitlines()
    assert error.startswith("memguard: --memory 201MiB is more than there is: ")
    assert "enclosing `memguard run`" in error


@pytest.mark.requirement("R2.4")
@pytest.mark.parametrize("fence", FENCES)
def test_the_inner_ones_death_leaves_the_outer_one(kit: Any, hog: Any, fence: str) -> None:
    """A job killed for its budget inside a wrapped script is 137 for the script, which goes on and ends as it likes."""
    inner = f"{MEMGUARD} run -q --memory 100MiB -- {' '.join(hog)} --mib 250"
    script = f'{inner}; echo "inner $?"; sleep 0.6; echo "goes on"; exit 3'
    # The outer one looks so often that it cannot miss the inner fence and the death in it.
    often = {"MEMGUARD_SAMPLE_INTERVAL_MIN": "1ms", "MEMGUARD_SAMPLE_INTERVAL_MAX": "1ms"}
    environment = {"MEMGUARD_FENCE": fence, **often}
    done, report = kit.report("--memory", "500MiB", "--", "/bin/sh", "-c", script, environment=environment)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"inner 137\ngoes on\n", b"")
    assert report["outcome"] == "raised"


@pytest.mark.requirement("R2.1")
@pytest.mark.parametrize("fence", FENCES)
def test_the_outer_budget_bounds_what_runs_inside_an_inner_one(kit: Any, hog: Any, fence: str) -> None:
    """Two inner commands, each within its own budget, are killed when together they pass the outer one."""
    # Without the ledger: with it they would run one after the other.
    inner = (
        f"MEMGUARD_LEDGER=off {MEMGUARD} run -q --memory 160MiB -- {' '.join(hog)} --mib 130 --hold-seconds 2"
    )
    script = f"{inner} & first=$!; {inner}; echo status $?; wait $first; echo status $?"
    done, report = kit.report(
        "-q", "--memory", "200MiB", "--", "/bin/sh", "-c", script, environment={"MEMGUARD_FENCE": fence}
    )
    if fence == "auto" and report["outcome"] == "completed":
        # The kernel chose one of the inner commands; the other, and the script, then fitted.
        assert b"status 137" in done.stdout
        assert report["peak_bytes"] <= 200 * MIB
    else:
        assert (done.returncode, report["outcome"]) == (137, "budget_kill")


def test_a_manager_inside_gets_the_outer_budget(kit: Any) -> None:
    """A Python program under `memguard run` that makes a MemoryManager shares the budget of the command."""
    program = (
        "import memguard\n"
        "with memguard.MemoryManager() as manager: print(manager.budget.limit_bytes)\n"
        "try: memguard.MemoryManager(budget='301MiB')\n"
        "except memguard.CapacityExceeded as error: print(error)\n"
    )
    done = kit.run("--memory", "300MiB", "--", sys.executable, "-c", program)
    first, second = done.stdout.decode().splitlines()
    assert (first, done.returncode) == (str(300 * MIB), 0)
    assert second.startswith("budget 301MiB is more than there is: 301 MiB of 300 MiB")
    assert "`memguard run`" in second


def test_the_budget_of_who_names_none(kit: Any) -> None:
    """It is the setting: 80 % of the capacity, or MEMGUARD_MEMORY; MEMGUARD_CAPACITY is what a share is a share of."""
    _, report = kit.report("--", "true")
    capacity = report["capacity"]["capacity_bytes"]
    assert report["budget"]["limit_bytes"] == int(capacity * 0.8)
    for environment, expected in (
        ({"MEMGUARD_MEMORY": "300MiB"}, 300 * MIB),
        ({"MEMGUARD_CAPACITY": "1GiB"}, int(1024 * MIB * 0.8)),
        ({"MEMGUARD_CAPACITY": "1GiB", "MEMGUARD_MEMORY": "50%"}, 512 * MIB),
    ):
        _, report = kit.report("--", "true", environment=environment)
        assert report["budget"]["limit_bytes"] == expected


def test_more_than_the_given_share_is_refused(kit: Any) -> None:
    """With MEMGUARD_CAPACITY a larger budget is wrong usage, and the message names the variable's bound."""
    done = kit.run("--memory", "2GiB", "--", "true", environment={"MEMGUARD_CAPACITY": "1GiB"})
    assert done.returncode == 2
    assert b"--memory 2GiB is more than there is: 2 GiB of 1 GiB" in done.stderr


def test_settings_in_the_working_directory_count(kit: Any) -> None:
    """A memguard.toml beside the command sets the default budget and the time."""
    (kit.folder / "memguard.toml").write_text('memory = "256MiB"\ntimeout = "200ms"\ngrace = "200ms"\n')
    done, report = kit.report("-q", "--", "sleep", "50")
    assert report["budget"]["limit_bytes"] == 256 * MIB
    assert (done.returncode, report["outcome"]) == (143, "timeout")


def test_secrets_are_struck_out(kit: Any) -> None:
    """Passwords and tokens in arguments and in recorded variables appear nowhere in the report or on stderr."""
    secret = f"hunter2{kit.mark}"
    words = [
        "--password", secret, f"--api-key={secret}", f"postgresql://user:{secret}@host/db", f"TOKEN={secret}",
        f'{{"password": "{secret}"}}', "-H", f"Authorization: Bearer {secret}",
    ]  # fmt: skip
    script = ("/bin/sh", "-c", "kill -SEGV $$", "sh", *words)
    variables = {
        "PYTHON_API_TOKEN": secret,
        "SLURM_JWT": f"eyJhbGciOi{secret}.eyJzdWIiOi{secret}.x",
        "DB_PASSWORD": secret,
    }
    done = kit.run("--report", "r.json", "--json", "--timeout", "10s", "--", *script, environment=variables)
    assert done.returncode == 139
    everything = (kit.folder / "r.json").read_text() + done.stdout.decode() + done.stderr.decode()
    assert secret not in everything
    assert "[redacted]" in everything


@pytest.mark.parametrize(("mode", "expected"), [("all", False), ("none", True)])
def test_redaction_can_be_set(kit: Any, mode: str, expected: bool) -> None:
    """MEMGUARD_REDACT=all keeps no argument, and none keeps all of them."""
    _, report = kit.report("--", "echo", "--token", "t0k3n", "plain", environment={"MEMGUARD_REDACT": mode})
    assert ("t0k3n" in json.dumps(report)) is expected
    assert ("plain" in json.dumps(report)) is expected


def test_the_log_tells_what_followed(kit: Any, hog: Any) -> None:
    """Who asked for the log reads in it that the budget was exceeded, as a manager's subscriber would."""
    done = kit.run("--memory", "100MiB", "--log-level", "info", "--", *hog, "--mib", "300")
    told = [word for word in done.stderr.decode().split() if word in EVENTS]
    assert done.returncode == 137
    assert told[:2] == ["memguard.reservation_granted", "memguard.job_started"]
    assert told[-2:] == ["memguard.job_ended", "memguard.budget_exceeded"]
