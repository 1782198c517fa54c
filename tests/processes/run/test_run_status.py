"""What `memguard run` exits with, and the one line it says when it cannot run a command at all."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest


def only_line(done: Any) -> str:
    """Return the single line of stderr; a traceback has many."""
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("memguard: ")
    return str(lines[0])


@pytest.mark.parametrize("status", [0, 1, 2, 125, 126, 127, 137, 255])
def test_the_commands_own_status_is_kept(kit: Any, status: int) -> None:
    """A command that ends with a status, one of memguard's own numbers included, makes memguard end with it."""
    done = kit.run("--", "/bin/sh", "-c", f"exit {status}")
    assert (done.returncode, done.stdout, done.stderr) == (status, b"", b"")


@pytest.mark.parametrize("name", ["SIGINT", "SIGSEGV", "SIGKILL", "SIGTERM", "SIGPIPE", "SIGRTMIN"])
def test_death_by_signal_is_128_and_its_number(kit: Any, name: str) -> None:
    """A command that dies of signal n makes memguard end with 128 + n, and the report names the signal."""
    number = getattr(signal, name)
    done, report = kit.report("-q", "--", "/bin/sh", "-c", f"ulimit -c 0; kill -{int(number)} $$")
    assert done.returncode == 128 + number
    assert (report["exit_status"], report["signal"]) == (128 + number, number.name)
    assert report["outcome"] == ("interrupted" if number == signal.SIGINT else "signal")


def test_a_command_that_is_not_there_is_127(kit: Any) -> None:
    """A name that is not on the PATH, and a missing path are 127, in one line with a remedy."""
    for word in ("no-such-command", "./no-such-command", f"{sys.executable}/below-a-file"):
        done = kit.run("--", word)
        assert done.returncode == 127
        assert only_line(done).startswith(f"memguard: {word}: command not found; check the name, ")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("", "the command's name is empty; check the words after --"),
        (
            "echo 'a b'",
            "echo 'a b': command not found; name and arguments are words of their own: drop the quotes, ",
        ),
    ],
)
def test_a_command_that_was_quoted_wrongly_is_127(kit: Any, word: str, told: str) -> None:
    """An empty word and a whole line in one word are told as what they are; the line can be pasted behind sh -c."""
    done = kit.run("--", word)
    assert done.returncode == 127
    line = only_line(done)
    assert line.startswith(f"memguard: {told}")
    if word:
        pasted = kit.run("--", "/bin/sh", "-c", line.partition("or use ")[2])
        assert (pasted.returncode, pasted.stdout) == (0, b"a b\n")


def test_zero_bytes_suggest_nothing(kit: Any) -> None:
    """What would be refused again is not suggested."""
    assert "did you mean" not in only_line(kit.run("--memory", "0", "--", "true"))


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_a_death_that_nobody_saw_coming_is_one_line(kit: Any, name: str) -> None:
    """Who dies of a fatal signal without a report asked for is told of in one line, and with -q not at all."""
    words = ("--memory", "1GiB", "--", "/bin/sh", "-c", f"ulimit -c 0; kill -{int(getattr(signal, name))} $$")
    told = only_line(kit.run(*words))
    assert told.startswith(f"memguard: sh: killed by {name}, which memguard did not send; peak ")
    assert told.endswith(" of its budget of 1 GiB")
    assert kit.run("-q", *words).stderr == b""


def test_a_time_that_is_up_names_its_limit(kit: Any) -> None:
    """The grace that a deaf command took is told apart from its limit, and what to raise is there to be pasted."""
    deaf = "trap '' TERM; while :; do sleep 1; done"
    done = kit.run("--timeout", "200ms", "--grace", "300ms", "--", "/bin/sh", "-c", deaf)
    told = done.stderr.decode()
    assert done.returncode == 137
    assert "its time of 200 ms was up; it did not stop when asked, and was killed " in told
    assert "--timeout 1s" in told


def test_a_misspelt_variable_is_told_and_harms_nobody(kit: Any) -> None:
    """One line says which variable counts for nothing, and which was meant; what memguard sets itself is none."""
    done = kit.run("--", "env", environment={"MEMGUARD_MEMROY": "1GiB"})
    assert only_line(done) == (
        "memguard: 'MEMGUARD_MEMROY' is not a setting, and counts for nothing; did you mean MEMGUARD_MEMORY?"
    )
    assert done.returncode == 0
    assert b"MEMGUARD_JOB_ID=" in done.stdout
    nested = kit.run("--", "/bin/sh", "-c", f"{sys.executable} -m memguard config")
    assert nested.stderr == b""
    assert kit.run("-q", "--", "true", environment={"MEMGUARD_MEMROY": "1GiB"}).stderr == b""


@pytest.mark.parametrize("quiet", [[], ["-q"]])
def test_a_log_of_json_lines_has_no_other_words(kit: Any, quiet: list[str]) -> None:
    """What is said beside the log is a line of it, a death with its parts as fields, and so is a bad command."""
    json_log = ("--log-format", "json", "--memory", "64MiB", *quiet, "--")
    grown = kit.run(*json_log, sys.executable, "-c", "x = b'x' * (200 << 20)")
    lines = [json.loads(line) for line in grown.stderr.splitlines()]
    assert grown.returncode == 137
    (death,) = [line for line in lines if "what_next" in line]
    assert death["level"] == "error"
    assert "its memory reached its budget" in death["event"]
    assert "--memory" in death["what_next"]
    missing = kit.run(*json_log, "no-such-command")
    assert "command not found" in json.loads(missing.stderr)["event"]


def test_a_command_that_cannot_be_executed_is_126(kit: Any) -> None:
    """A file without the permission and a folder are 126; whether a report was asked for, none is written."""
    plain = kit.folder / "plain"
    plain.write_text("#!/bin/sh\n")
    for word in (str(plain), str(kit.folder)):
        done = kit.run("--report", "r.json", "--json", "--", word)
        assert (done.returncode, done.stdout) == (126, b"")
        assert only_line(done).startswith(f"memguard: {word}: cannot be executed: Permission denied; ")
    assert list(kit.folder.iterdir()) == [plain]


@pytest.mark.parametrize("first_line", ["", "#!/bin/sh\n"])
def test_a_script_runs_with_and_without_its_first_line(kit: Any, first_line: str) -> None:
    """A script that names no interpreter is run by the shell, as every shell, `env` and `timeout` do."""
    script = kit.folder / "script"
    script.write_text(f'{first_line}echo "$0 $1"; exit 5\n')
    script.chmod(0o755)
    found = {"PATH": f"{kit.folder}:{os.environ['PATH']}"}
    for word in (str(script), "script"):
        done = kit.run("--", word, "a b", environment=found)
        assert (done.returncode, done.stdout.decode()) == (5, f"{script} a b\n")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--memory", "80"], ["--memory 80", "80 B is too small", "did you mean 80MiB or 80%?"]),
        (["--memory", "1024"], ["1 KiB is too small", "; did you mean 1024MiB?"]),
        (["--memory", "100TB"], ["more than there is: 100TB of"]),
        (["--memory", "4 bananas"], ["--memory: '4 bananas'", "4GiB", "80%"]),
        (["--memory", "-1GiB"], ["'-1GiB' is not a size"]),
        (["--memory", "101%"], ["'101%'", "more than 100 %"]),
        (["--memory", "1000TiB"], ["--memory 1000TiB is more than there is", "ask for at most that"]),
        (["--memory", ""], ["'' is not a size"]),
        (["--timeout", "soon"], ["--timeout", "'soon' is not a duration", "5m"]),
        (["--timeout", "0"], ["--timeout", "'0' is too short"]),
        (["--memroy", "1GiB"], ["No such option '--memroy'", "'--memory'", "`memguard run --help`"]),
    ],
)
def test_wrong_usage_is_2_and_one_line(kit: Any, options: list[str], parts: list[str]) -> None:
    """A wrong option ends with 2 and one line that names it and the remedy, and the command never runs."""
    done = kit.run(*options, "--", "touch", "it-ran")
    line = only_line(done)
    assert done.returncode == 2
    assert [part for part in parts if part not in line] == []
    assert list(kit.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "value", "parts"),
    [
        (
            "MEMGUARD_MEMORY",
            "80",
            ["memory (environment MEMGUARD_MEMORY): '80' is 80 B, too small", "80MiB or 80%"],
        ),
        (
            "MEMGUARD_MEMORY",
            "1000TiB",
            ["memory (environment MEMGUARD_MEMORY) 1000TiB is more than there is"],
        ),
        ("MEMGUARD_MEMORY", "lots", ["environment MEMGUARD_MEMORY", "'lots' is not a size"]),
        ("MEMGUARD_TIMEOUT", "soon", ["environment MEMGUARD_TIMEOUT", "'soon' is not a duration"]),
        ("MEMGUARD_FENCE", "wall", ["environment MEMGUARD_FENCE", "wall", "cgroup"]),
        ("MEMGUARD_CONFIG", "/nowhere.toml", ["/nowhere.toml", "MEMGUARD_CONFIG", "cannot be read"]),
    ],
)
def test_a_wrong_setting_is_2_and_one_line(kit: Any, variable: str, value: str, parts: list[str]) -> None:
    """A wrong variable ends with 2 and one line that names it, and the command never runs."""
    done = kit.run("--", "touch", "it-ran", environment={variable: value})
    line = only_line(done)
    assert done.returncode == 2
    assert [part for part in parts if part not in line] == []
    assert list(kit.folder.iterdir()) == []


def test_no_command_is_wrong_usage(kit: Any) -> None:
    """`memguard run` alone says that the command is missing."""
    done = kit.run("--memory", "1GiB")
    assert done.returncode == 2
    assert "COMMAND" in only_line(done)


def test_words_after_the_command_are_never_read(kit: Any) -> None:
    """Options and dashes after the command's name are its own, with and without `--` before it."""
    show = ("/usr/bin/env", "printf", "%s|")
    for words in (("--", *show, "--", "--memory", "x", "-h"), (*show, "--memory", "--", "--name")):
        done = kit.run(*words)
        expected = "".join(f"{word}|" for word in words[words.index("%s|") + 1 :])
        assert (done.returncode, done.stdout.decode(), done.stderr) == (0, expected, b"")


def test_words_that_are_no_text_pass_through(kit: Any) -> None:
    """Arguments of any bytes reach the command as they are, and the report is still written."""
    words: list[Any] = [b"--", b"printf", b"%s", b"\xff\xfe \x80"]
    done, report = kit.report(*words)
    assert (done.returncode, done.stdout) == (0, b"\xff\xfe \x80")
    assert report["outcome"] == "completed"


def test_memguard_that_cannot_start_a_process_is_125(kit: Any) -> None:
    """Where no more processes may be made memguard says so in one line and ends with 125."""
    group = _a_pids_cgroup(kit)
    try:
        enter = f'echo $$ > {group}/cgroup.procs; exec "$@"'
        done = kit.start(
            "/bin/sh", "-c", enter, "sh", str(Path(sys.executable).with_name("memguard")), "run", "true"
        )
        done = kit.finish(done)
    finally:
        kit.wait_until(lambda: not (group / "cgroup.procs").read_text(), "the group is empty")
        group.rmdir()
    assert done.returncode == 125
    assert "the command was not started" in only_line(done)


def _a_pids_cgroup(kit: Any) -> Path:
    """Make a cgroup that holds one process and no more."""
    root = Path("/sys/fs/cgroup/pids")
    if not os.access(root / "cgroup.procs", os.W_OK):
        pytest.skip("no pids cgroup can be made here")
    group = root / f"run-test-{kit.mark}"
    group.mkdir()
    (group / "pids.max").write_text("1")
    return group
