"""``memguard doctor``: abilities in words, versions that do not fit, and its schema."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from memguard.cli.doctor import doctor_command, document, fence_of_jobs, ledger_of
from memguard.cli.versions import find_conflicts, installed_versions
from memguard.config import FenceChoice, load_settings
from memguard.host import Abilities, Ability, find_stale_fences, probe

NOTHING = Abilities(
    cgroup_version="none",
    fence_kind="none",
    **{
        field.name: Ability(False, f"no {field.name} here")
        for field in dataclasses.fields(Abilities)
        if field.name not in {"cgroup_version", "fence_kind"}
    },
)
EVERYTHING = Abilities(
    cgroup_version="v2",
    fence_kind="cgroup-v2",
    **{
        field.name: Ability(True, "tried")
        for field in dataclasses.fields(Abilities)
        if field.name not in {"cgroup_version", "fence_kind"}
    },
)
FITTING = {
    "python": "3.11.7",
    "automl-memguard": "0.1.0",
    "psutil": "7.2.2",
    "autofeat": "2.1.3",
    "scikit-learn": "1.7.2",
    "numpy": "1.26.4",
    "pandas": "2.3.3",
    "pyarrow": "25.0.1",
}


def validate(found: dict[str, Any]) -> None:
    schema = json.loads(resources.files("memguard").joinpath("schemas", "doctor-1.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(found)


@pytest.mark.parametrize("abilities", [NOTHING, EVERYTHING])
def test_any_machine_is_told_as_the_schema_says(abilities: Abilities) -> None:
    """With everything or nothing, and with conflicts and stale fences, the document fits its schema."""
    validate(document(abilities, FITTING))
    validate(document(abilities, {**FITTING, "scikit-learn": "1.9.1", "pandas": None}, ("/sys/x",)))


def test_this_machine_is_told_as_the_schema_says() -> None:
    """The real command prints the document that the probe, the metadata and the cgroups of now give."""
    done = CliRunner().invoke(doctor_command, ["--json"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    validate(found)
    assert found["versions"] == installed_versions()
    assert found["cgroup_version"] == probe().cgroup_version
    states = {row["name"]: row["state"] == "ok" for row in found["abilities"]}
    assert all(states[name] is getattr(probe(), name).available for name in states)
    assert len(states) == len(dataclasses.fields(Abilities)) - 2


def test_what_is_missing_is_said_in_words() -> None:
    """Each missing ability has a reason, what it would give, and what to do; nothing is told by colour."""
    found = document(NOTHING, FITTING)
    assert found["healthy"] is False
    assert {row["state"] for row in found["abilities"]} == {"missing"}
    assert all(row["reason"] and row["meaning"] and row["remedy"] for row in found["abilities"])
    assert document(EVERYTHING, FITTING)["healthy"] is True


def test_people_read_states_and_remedies() -> None:
    """The text names each ability with OK or MISSING, and a remedy for each that is missing."""
    done = CliRunner().invoke(doctor_command)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    for row in document(probe(), FITTING)["abilities"]:
        (line,) = [line for line in lines if line.startswith(f"{row['title']}  ")]
        assert f" {row['state'].upper()} " in line
        told = f"MISSING {row['title']}: {row['remedy']}"
        assert (told in lines) is (row["state"] == "missing")
    assert any(line.startswith("jobs get: ") for line in lines)


@pytest.mark.parametrize(
    ("choice", "abilities", "kind"),
    [
        (FenceChoice.AUTO, EVERYTHING, "cgroup-v2"),
        (FenceChoice.CGROUP, EVERYTHING, "cgroup-v2"),
        (FenceChoice.RLIMIT, EVERYTHING, "rlimit"),
        (FenceChoice.NONE, EVERYTHING, "watch"),
        (FenceChoice.AUTO, dataclasses.replace(EVERYTHING, fence=Ability(False, "no")), "rlimit"),
        (FenceChoice.CGROUP, NOTHING, "watch"),
    ],
)
def test_the_fence_of_jobs_follows_from_wish_and_ability(
    choice: FenceChoice, abilities: Abilities, kind: str
) -> None:
    """What the settings ask for is given where it can be, else the next best."""
    assert fence_of_jobs(choice, abilities) == kind


def test_the_fence_that_jobs_get_is_told() -> None:
    """A setting that forbids cgroups changes what the doctor says jobs will get."""
    command = [sys.executable, "-m", "memguard", "doctor", "--json"]
    environment = {**os.environ, "MEMGUARD_FENCE": "none"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout)["fence_of_jobs"] == "watch"


@pytest.mark.parametrize(
    ("changed", "pairs"),
    [
        ({}, []),
        ({"scikit-learn": "1.8.0"}, [("autofeat", "scikit-learn")]),
        ({"scikit-learn": "1.10.0rc1"}, [("autofeat", "scikit-learn")]),
        ({"scikit-learn": None}, []),
        ({"autofeat": None, "scikit-learn": "1.9"}, []),
        ({"autofeat": "2.2.0", "scikit-learn": "1.9"}, []),
        ({"autofeat": "2.1.3.post1", "scikit-learn": "1.9"}, [("autofeat", "scikit-learn")]),
        ({"numpy": "2.0.0"}, [("autofeat", "numpy")]),
        ({"pandas": "3.0.0"}, [("autofeat", "pandas")]),
        ({"python": "3.13.1"}, [("autofeat", "python")]),
        ({"pyarrow": "26.0.0"}, [("pyarrow", "numpy")]),
        ({"pyarrow": "26.0.0", "numpy": "2.1.0", "autofeat": None}, []),
        ({"pyarrow": "26.0.0", "numpy": None}, []),
        ({"pyarrow": "unknown"}, []),
    ],
)
def test_only_known_conflicts_are_reported(
    changed: dict[str, str | None], pairs: list[tuple[str, str]]
) -> None:
    """Each pair of versions that was seen to break is found, whatever the form of the number; no other is."""
    conflicts = find_conflicts({**FITTING, **changed})
    assert [conflict.packages for conflict in conflicts] == pairs
    assert all(conflict.remedy for conflict in conflicts)


def test_strict_turns_findings_into_a_status() -> None:
    """Exit status 1 only with --strict, and only if something is missing or does not fit."""
    assert CliRunner().invoke(doctor_command).exit_code == 0
    done = CliRunner().invoke(doctor_command, ["--strict", "--json"])
    assert done.exit_code == (0 if json.loads(done.stdout)["healthy"] else 1)


def test_strict_finds_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """With versions that conflict, --strict exits with 1 and the text says what and what to do."""
    monkeypatch.setattr(
        "memguard.cli.doctor.installed_versions", lambda: {**FITTING, "scikit-learn": "1.9.1"}
    )
    done = CliRunner().invoke(doctor_command, ["--strict"])
    assert done.exit_code == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("DOES NOT FIT")]
    assert "TypeError" in line
    assert "pip install" in line


def test_versions_are_told_without_importing() -> None:
    """The doctor must work where the packages it tells about cannot even be imported."""
    program = (
        "import sys\nfrom memguard.cli.doctor import doctor_command\n"
        "doctor_command(['--json'], standalone_mode=False)\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert not loaded & {"autofeat", "sklearn", "numpy", "pandas", "pyarrow"}
    assert json.loads(done.stdout)["versions"]["numpy"] == installed_versions()["numpy"]


def test_the_doctor_leaves_nothing_behind() -> None:
    """The cgroup that it tries is gone afterwards, and it takes no fence away."""
    before = find_stale_fences()
    probe.cache_clear()
    assert CliRunner().invoke(doctor_command).exit_code == 0
    assert set(find_stale_fences()) <= set(before)


@pytest.mark.parametrize(("mode", "choice"), [(0o700, "auto"), (0o777, "auto"), (0o777, "off")])
def test_a_ledger_that_cannot_be_used_is_told(tmp_path: Path, mode: int, choice: str) -> None:
    """Where others could write, jobs would not share the machine: that is not healthy; unused, it does no harm."""
    folder = tmp_path / "ledger"
    folder.mkdir()
    folder.chmod(mode)
    found = ledger_of(load_settings({"runtime_dir": str(folder), "ledger": choice}))
    told = document(EVERYTHING, FITTING, ledger=found)
    validate(told)
    is_amiss = mode == 0o777 and choice == "auto"
    assert (found["used"], found["trouble"] is not None) == (choice == "auto", is_amiss)
    assert told["healthy"] is not is_amiss
    assert found["folder"] == (str(folder) if mode == 0o700 else None)
