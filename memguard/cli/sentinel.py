"""``memguard sentinel``: whether somebody watches the machine's memory for jobs, and watching it as a service."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from memguard.cli.exits import say, show
from memguard.cli.setting_flags import read_settings
from memguard.config import Settings
from memguard.guard.journal import Journal
from memguard.guard.orders import Orders
from memguard.guard.pressure import Pressure
from memguard.guard.sentinel import watch
from memguard.guard.single import SentinelLock, sentinel_of
from memguard.guard.wake import Wake
from memguard.host import is_alive
from memguard.host.quarters import lock_memory, settle_in
from memguard.ledger.beacon import Sight, domain_file, sight_at
from memguard.ledger.book import boot_seconds
from memguard.ledger.place import find_ledger_folder, ledger_folder
from memguard.ledger.records import domain_of
from memguard.ledger.room import room_for
from memguard.ledger.snapshot import take_snapshot
from memguard.units import format_bytes, format_duration, format_share

__all__ = ["SCHEMA", "sentinel_command"]

SCHEMA: Final = "memguard.sentinel/1"
_LOOK_AT_LOCK_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """The sentinel of one domain, and where there is none how many jobs nobody watches.

    ``pid`` is ``None`` where there is none, ``sight`` where it has not looked yet.
    """

    domain: str
    pid: int | None
    sight: Sight | None
    unwatched: int = 0


@click.command("sentinel")
@click.option("--foreground", is_flag=True, help="Watch, from here, until SIGTERM or Ctrl-C; for a service.")
@click.option(
    "--machine",
    is_flag=True,
    help="The whole machine's memory, whatever limit this process itself is under. Default: that limit's.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (schema memguard.sentinel/1).")
def sentinel_command(*, foreground: bool, machine: bool, as_json: bool) -> None:
    """Tell whether somebody watches the machine's memory for jobs, or watch it.

    A sentinel watches while jobs hold memory of the ledger: it is started with the first and goes some seconds after
    the last, so nobody needs to run this. It stops jobs that outgrow what they reserved before the kernel kills any,
    and lets them go on when there is room. With --foreground it stays without jobs too, and logs JSON lines to stderr.
    """
    settings = read_settings()
    domain = _domain(settings, machine=machine)
    if foreground:
        _watch(settings, domain, machine=machine)
        return
    seen = _look(settings, domain)
    show(json.dumps(_document(seen), indent=2) if as_json else _told(seen))


def _domain(settings: Settings, *, machine: bool) -> str:
    if not machine:
        return room_for(settings).domain
    return domain_of("", "" if settings.capacity is None else settings.capacity.canonical)


def _look(settings: Settings, domain: str) -> _Seen:
    folder = find_ledger_folder(settings.runtime_dir)
    who = None if folder is None else sentinel_of(folder, domain)
    if folder is None or who is None or not is_alive(who):
        leases = take_snapshot(settings.runtime_dir, domain, with_actions=False).leases
        running = [each for each in leases if each.is_granted and each.domain == domain]
        return _Seen(domain, None, None, sum(is_alive(each.owner) for each in running))
    sight = sight_at(domain_file(folder, "sight", domain))
    return _Seen(domain, who.pid, sight if sight is not None and sight.pid == who.pid else None)


def _document(seen: _Seen) -> dict[str, Any]:
    document: dict[str, Any] = {"schema": SCHEMA, "domain": seen.domain, "watches": seen.pid is not None}
    if seen.pid is not None:
        document["pid"] = seen.pid
    if seen.sight is not None:
        document |= {
            "state": Pressure(seen.sight.state).name.lower(),
            "seen_s_ago": round(boot_seconds() - seen.sight.at_s, 3),
            "used_fraction": seen.sight.used_fraction,
            "capacity_bytes": seen.sight.capacity_bytes,
            "available_bytes": seen.sight.available_bytes,
            "promised_bytes": seen.sight.promised_bytes,
            "running": seen.sight.running,
        }
    return document


def _told(seen: _Seen) -> str:
    whose = seen.domain or "the machine"
    if seen.pid is None:
        return f"nobody watches {whose}: {_why_nobody(seen.unwatched)}"
    if seen.sight is None:
        return f"process {seen.pid} begins to watch {whose}"
    sight = seen.sight
    share, ago = format_share(sight.used_fraction), format_duration(max(0.0, boot_seconds() - sight.at_s))
    if not sight.is_fresh():
        return f"process {seen.pid} is to watch {whose}, and last looked {ago} ago (memguard runbook SentinelGone)"
    return (
        f"process {seen.pid} watches {whose}: pressure {Pressure(sight.state).name.lower()}, {share} of "
        f"{format_bytes(sight.capacity_bytes)} in use, {sight.running} jobs; it looked {ago} ago"
    )


def _why_nobody(jobs: int) -> str:
    if not jobs:
        return "no job holds memory of the ledger"
    count = "1 job has" if jobs == 1 else f"{jobs} jobs have"
    return f"{count} a sentinel to start (memguard runbook SentinelGone)"


def _watch(settings: Settings, domain: str, *, machine: bool) -> None:
    folder = ledger_folder(settings.runtime_dir)
    scope = "" if machine else None
    orders = Orders(folder, domain, settings.capacity, settings.reserve, scope, linger_s=None)
    settle_in()
    lock_memory()
    with Wake((signal.SIGTERM, signal.SIGINT)) as wake:
        # Again, where the folder was removed and another one watches what is there now.
        while (lock := _take(ledger_folder(settings.runtime_dir), domain, wake)) is not None:
            watch(orders, Journal(None), lock, wake)


def _take(folder: Path, domain: str, wake: Wake) -> SentinelLock | None:
    """Wait until nobody else watches; ``None`` if this was stopped before."""
    path, told = domain_file(folder, "sentinel.lock", domain), False
    while not wake.is_stopped:
        if (lock := SentinelLock.take(path)) is not None:
            return lock
        if not told:
            who = sentinel_of(folder, domain)
            say(
                f"{'another one' if who is None else f'process {who.pid}'} watches already; waiting until it ends"
            )
            told = True
        wake.wait(_LOOK_AT_LOCK_S)
    return None
