"""``memguard doctor``: what this machine can enforce, what is missing, and what to do about it."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import click

from memguard.cli.exits import EXIT_FAILED, show
from memguard.cli.setting_flags import read_settings
from memguard.cli.tables import print_table
from memguard.cli.versions import Conflict, find_conflicts, installed_versions
from memguard.config import FenceChoice, LedgerChoice, Settings
from memguard.errors import LedgerError
from memguard.host import Abilities, Ability, find_stale_fences, probe
from memguard.ledger.place import find_ledger_folder

__all__ = ["SCHEMA", "doctor_command", "document", "fence_of_jobs", "ledger_of"]

SCHEMA: Final = "memguard.doctor/1"
_NO_LEDGER: Final = {"used": True, "folder": None, "trouble": None}


@dataclass(frozen=True, slots=True)
class _Subject:
    """What an ability is for, in words.

    Attributes:
        attribute: its name in `memguard.host.Abilities`.
        title: its name for people.
        meaning: what memguard does with it.
        remedy: what to do where it is missing.
    """

    attribute: str
    title: str
    meaning: str
    remedy: str


_SUBJECTS: Final = (
    _Subject(
        "fence",
        "memory cgroup",
        "the kernel itself holds each job to its budget",
        "run as a user with a delegated cgroup (systemd-run --user --scope -p Delegate=yes), or as root; "
        "until then a watching supervisor does it",
    ),
    _Subject(
        "swap_accounting",
        "swap accounting",
        "a fenced job cannot grow into swap",
        "boot with swapaccount=1, or run without swap",
    ),
    _Subject(
        "rlimit_data",
        "RLIMIT_DATA",
        "a runaway process meets a backstop where no cgroup can be made",
        "use a Linux kernel of 4.7 or later; some container runtimes bring a kernel of their own",
    ),
    _Subject(
        "smaps_rollup",
        "smaps_rollup",
        "exact private memory of each process, shared pages told apart",
        "use a Linux kernel of 4.14 or later; until then forked processes count inherited pages as theirs",
    ),
    _Subject(
        "pidfd",
        "pidfd",
        "a signal never hits a process that took over a used pid",
        "use a Linux kernel of 5.3 or later, and a container runtime whose seccomp profile allows pidfd_open",
    ),
    _Subject(
        "process_mrelease",
        "process_mrelease",
        "memory of a killed job is free at once",
        "use a Linux kernel of 5.15 or later; until then it takes the kernel a moment",
    ),
    _Subject(
        "subreaper",
        "subreaper",
        "processes that a job detached are found and ended with it",
        "use Linux; elsewhere detached processes may outlive their job",
    ),
    _Subject(
        "memfd",
        "memfd",
        "shared memory without a name, which nobody can leave behind",
        "use a Linux kernel of 3.17 or later",
    ),
    _Subject(
        "pressure",
        "pressure (PSI)",
        "a shortage is confirmed by the time lost to waiting for memory",
        "boot with psi=1, or use a Linux kernel of 4.20 or later",
    ),
)


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (schema memguard.doctor/1).")
@click.option("--strict", is_flag=True, help="Exit with status 1 if anything is missing or does not fit.")
@click.pass_context
def doctor_command(ctx: click.Context, *, as_json: bool, strict: bool) -> None:
    """Show what this machine can enforce, what is missing, and what to do about it.

    Each ability is tried for real: a cgroup is made and removed, one small process is started. Exit status 0,
    unless --strict is given.
    """
    settings = read_settings()
    ledger = ledger_of(settings)
    found = document(probe(), installed_versions(), find_stale_fences(), settings.fence, ledger)
    if as_json:
        show(json.dumps(found, indent=2))
    else:
        _print(found)
    if strict and not found["healthy"]:
        ctx.exit(EXIT_FAILED)


def document(
    abilities: Abilities,
    versions: Mapping[str, str | None],
    stale_fences: tuple[str, ...] = (),
    choice: FenceChoice = FenceChoice.AUTO,
    ledger: Mapping[str, Any] = _NO_LEDGER,
) -> dict[str, Any]:
    """Return what ``--json`` prints.

    Args:
        abilities: what the machine can do.
        versions: installed versions, as `memguard.cli.versions.installed_versions` gives them.
        stale_fences: paths of fences whose owner was killed.
        choice: which fence the settings ask for.
        ledger: what `ledger_of` found.
    """
    rows = [_described(subject, abilities) for subject in _SUBJECTS]
    conflicts = find_conflicts(versions)
    return {
        "schema": SCHEMA,
        "healthy": all(row["state"] == "ok" for row in rows) and not conflicts and ledger["trouble"] is None,
        "system": f"{platform.system()} {platform.release()}",
        "cgroup_version": abilities.cgroup_version,
        "fence_of_jobs": fence_of_jobs(choice, abilities),
        "abilities": rows,
        "versions": dict(versions),
        "conflicts": [_told(conflict) for conflict in conflicts],
        "stale_fences": list(stale_fences),
        "ledger": dict(ledger),
    }


def ledger_of(settings: Settings) -> dict[str, Any]:
    """Return whether jobs share the machine, where the ledger is (none before the first job), and what is amiss."""
    used = settings.ledger is not LedgerChoice.OFF
    try:
        folder = find_ledger_folder(settings.runtime_dir) if used else None
    except (LedgerError, OSError) as error:
        return {"used": used, "folder": None, "trouble": str(error)}
    return {"used": used, "folder": None if folder is None else str(folder), "trouble": None}


def fence_of_jobs(choice: FenceChoice, abilities: Abilities) -> str:
    """Return what will hold jobs: ``cgroup-v2``, ``cgroup-v1``, ``rlimit``, or ``watch`` for the supervisor alone."""
    if choice in (FenceChoice.AUTO, FenceChoice.CGROUP) and abilities.fence:
        return abilities.fence_kind
    return "rlimit" if choice is not FenceChoice.NONE and abilities.rlimit_data else "watch"


def _described(subject: _Subject, abilities: Abilities) -> dict[str, Any]:
    ability = getattr(abilities, subject.attribute)
    assert isinstance(ability, Ability)
    return {
        "name": subject.attribute,
        "title": subject.title,
        "state": "ok" if ability else "missing",
        "reason": ability.reason,
        "meaning": subject.meaning,
        "remedy": None if ability else subject.remedy,
    }


def _told(conflict: Conflict) -> dict[str, Any]:
    return {
        "packages": list(conflict.packages),
        "problem": conflict.problem,
        "remedy": conflict.remedy,
    }


_FENCES: Final = {
    "cgroup-v2": "a memory cgroup of their own (v2): the kernel holds the budget",
    "cgroup-v1": "a memory cgroup of their own (v1): the kernel holds the budget",
    "rlimit": "RLIMIT_DATA as a backstop; a watching supervisor holds the budget, so a spike can pass unseen",
    "watch": "a watching supervisor alone, so a spike can pass unseen",
}


def _print(found: dict[str, Any]) -> None:
    show(f"{found['system']}, cgroups: {found['cgroup_version']}")
    show(f"jobs get: {_FENCES[found['fence_of_jobs']]}")
    show(f"machine:  {_tell_ledger(found['ledger'])}\n")
    rows = [(row["title"], row["state"].upper(), row["meaning"], row["reason"]) for row in found["abilities"]]
    print_table(("ability", "state", "what it gives", "how that is known"), rows)
    show("")
    print_table(("package", "version"), [(name, held or "-") for name, held in found["versions"].items()])
    for line in _advice(found):
        show(line)


def _advice(found: dict[str, Any]) -> list[str]:
    """Return what to do, one line each, with an empty line before the first."""
    lines = [f"MISSING {row['title']}: {row['remedy']}" for row in found["abilities"] if row["remedy"]]
    lines += [f"DOES NOT FIT {each['problem']}; {each['remedy']}" for each in found["conflicts"]]
    lines += [
        f"STALE {path}: its owner was killed; the next job removes it" for path in found["stale_fences"]
    ]
    if found["ledger"]["trouble"]:
        lines.append(f"LEDGER {found['ledger']['trouble']}")
    return ["", *lines] if lines else []


def _tell_ledger(ledger: Mapping[str, Any]) -> str:
    if not ledger["used"]:
        return "not shared: the setting ledger is off, jobs know nothing of each other"
    if ledger["trouble"]:
        return "not shared: its ledger cannot be used, see below"
    where = ledger["folder"] or "made by the first job"
    return f"shared by all jobs of this user, each waits for what it names (ledger: {where})"
