"""The completion scripts: sourced by the shells they are for, and completing what there is."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

import pytest

from memguard.cli.main import COMMANDS

FOLDER = os.path.dirname(sys.executable)
# Completes a line as bash does after its <tab>, and tells what it would offer, or that it leaves it to its own files.
COMPLETE = """
eval "$(memguard completion bash)"
complete -p memguard
compopt() { local IFS=' '; echo "option $*"; }
for line in "$@"; do
  IFS=' ' read -ra COMP_WORDS <<<"$line"
  [[ $line == *' ' ]] && COMP_WORDS+=("")
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  COMPREPLY=()
  _memguard_completion memguard
  echo "$line -> ${COMPREPLY[*]//$'\\n'/ }" | tr '\\n' ' '; echo
done
"""


def script(kit: Any, shell: str) -> str:
    done = kit.finish(kit.start(f"{FOLDER}/memguard", "completion", shell))
    assert (done.returncode, done.stderr) == (0, b"")
    return str(done.stdout.decode())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_valid(kit: Any, shell: str) -> None:
    """The shell itself finds no fault in its script, and the script is for memguard."""
    text = script(kit, shell)
    assert {"bash": "complete", "zsh": "#compdef memguard", "fish": "complete"}[shell] in text
    assert "_MEMGUARD_COMPLETE" in text
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    (kit.folder / "script").write_text(text)
    done = kit.finish(kit.start(shell, "-n", "script"))
    assert (done.returncode, done.stderr) == (0, b"")


def test_bash_completes(kit: Any) -> None:
    """Commands, options, choices and, where a file or a command's own words belong, files."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    lines = {
        "memguard ": sorted(COMMANDS),
        "memguard re": ["report"],
        "memguard run --ti": ["--timeout"],
        "memguard completion z": ["zsh"],
        "memguard report ": ["option -o default"],
        "memguard run --report ": ["option -o default"],
        "memguard run -- python scr": ["option -o default"],
        "memguard run --memory 1GiB python --op": [],
    }
    found = {"PATH": f"{FOLDER}:{os.environ['PATH']}"}
    done = kit.finish(kit.start("bash", "-c", COMPLETE, "bash", *lines, environment=found))
    first, *answers = done.stdout.decode().splitlines()
    assert done.stderr == b""
    assert first.startswith("complete ")
    assert first.endswith("_memguard_completion memguard")
    text = "\n".join(answers)
    for line, expected in lines.items():
        assert f"{line} -> " in text
        told = text.partition(f"{line} -> ")[2].partition("\n")[0].split()
        if expected == ["option -o default"]:
            assert f"option -o default\n{line} -> " in text
        else:
            assert told == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_what_the_other_shells_ask_is_answered(kit: Any, shell: str) -> None:
    """The question that the script of zsh or fish puts to memguard gets the commands that begin so."""
    asked = {"_MEMGUARD_COMPLETE": f"{shell}_complete", "COMP_WORDS": "memguard re", "COMP_CWORD": "1"}
    asked |= {"COMP_WORDS": "memguard re", "COMP_CWORD": "re"} if shell == "fish" else {}
    done = kit.finish(kit.start(f"{FOLDER}/memguard", environment=asked))
    assert done.returncode == 0
    assert b"report" in done.stdout
    assert b"status" not in done.stdout
