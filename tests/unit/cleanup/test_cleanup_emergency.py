"""An emergency goes by stages, and through managers that enclose each other."""

from __future__ import annotations

import gc

import pytest

from memguard.cleanup import CleanupManager
from tests.support.cleanups import Cache, Calls, gc_disabled


@pytest.mark.requirement("T5.2", "T2.3")
def test_emergency_goes_by_stages(calls: Calls) -> None:
    """Caches give back first, then other emergency handlers run, then garbage is collected exactly once."""
    collections: list[str] = []

    def watch(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            collections.append("collected")
            calls.names.append("collection")

    readings = iter([1000, 400])
    with CleanupManager(read_private_bytes=lambda: next(readings)) as manager, gc_disabled():
        manager.register("for the end", calls("for the end"))
        manager.register("old emergency", calls("old emergency"), on=("emergency",))
        older, newer = Cache(100), Cache(50)
        manager.register_sheddable("older", older)
        manager.register_sheddable("newer", newer)
        manager.register("new emergency", calls("new emergency", 3), on=("emergency", "normal"))
        gc.callbacks.append(watch)
        try:
            report = manager.run_emergency("short of memory")
            assert collections == ["collected"]
            manager.run("normal")
            assert collections == ["collected"]
        finally:
            gc.callbacks.remove(watch)
    assert report.order == ("newer", "older", "new emergency", "old emergency", "garbage collection")
    assert calls.names[:3] == ["new emergency", "old emergency", "collection"]
    assert (report.measured_bytes, report.freed_bytes) == (600, 600)
    assert [result.freed_bytes for result in report.results] == [50, 100, 3, None, None]


def test_emergency_asks_for_what_is_missing_only() -> None:
    """Each cache is asked for what those before it left over, and is left alone once the target is met."""
    with CleanupManager(read_private_bytes=lambda: 0) as manager:
        caches = [Cache(100) for _ in range(3)]
        for number, cache in enumerate(caches):
            manager.register_sheddable(str(number), cache)
        report = manager.run_emergency(target_bytes=150)
    assert [cache.asked for cache in caches] == [[], [50], [150]]
    assert [result.outcome for result in report.results] == ["ok", "ok", "skipped", "ok"]


def test_emergency_is_repeated_and_survives_a_broken_cache() -> None:
    """A cache that fails is reported, the rest is freed, and the next emergency asks all of them again."""

    class Broken(Cache):
        def shed(self, target_bytes: int) -> int:
            raise RuntimeError("torn")

    def unreadable() -> int:
        raise PermissionError

    with CleanupManager(read_private_bytes=unreadable) as manager:
        broken, whole = Broken(1), Cache(5)
        manager.register_sheddable("whole", whole)
        manager.register_sheddable("broken", broken)
        reports = [manager.run_emergency(), manager.run_emergency()]
    assert [report.freed_bytes for report in reports] == [5, 0]
    assert all(report.measured_bytes is None and len(report.failures) == 1 for report in reports)


class NotingCache:
    def __init__(self, asked: list[tuple[str, int]], name: str, holds: int = 0) -> None:
        self.asked, self.name, self.holds = asked, name, holds

    def shed(self, target_bytes: int) -> int:
        self.asked.append((self.name, target_bytes))
        return self.holds


def test_an_emergency_reaches_managers_inside_first() -> None:
    """Children before parents, the last made first; what one gave back the next ones are not asked for."""
    outer = CleanupManager(read_private_bytes=lambda: 0)
    first, second = CleanupManager(enclosing=outer), CleanupManager(enclosing=outer)
    innermost = CleanupManager(enclosing=first)
    asked = list[tuple[str, int]]()
    caches = [NotingCache(asked, name, 10) for name in ("outer", "first", "second", "innermost")]
    for manager, cache in zip((outer, first, second, innermost), caches, strict=True):
        manager.register_sheddable(cache.name, cache)
        manager.register(f"{cache.name} empties", bool, on=("emergency",))
    report = outer.run_emergency("short", target_bytes=35)
    assert asked == [("second", 35), ("innermost", 25), ("first", 15), ("outer", 5)]
    assert report.order == (
        *("second", "second empties", "innermost", "innermost empties", "first", "first empties"),
        *("outer", "outer empties", "garbage collection"),
    )
    assert first.run_emergency("short").order[:2] == ("innermost", "innermost empties")


def test_an_emergency_skips_what_is_closed_or_gone() -> None:
    """A closed manager's caches may be torn down: they are not asked, by itself or from around; a dead one is no more."""
    outer = CleanupManager()
    closed, open_inside = CleanupManager(enclosing=outer), CleanupManager(enclosing=outer)
    within_closed = CleanupManager(enclosing=closed)
    dropped = CleanupManager(enclosing=outer)
    asked = list[tuple[str, int]]()
    caches = [NotingCache(asked, name) for name in ("closed", "open", "within", "dropped")]
    for manager, cache in zip((closed, open_inside, within_closed, dropped), caches, strict=True):
        manager.register_sheddable(cache.name, cache)
        manager.register("at the end", bool)
    closed.close()
    dropped.close()
    del dropped, manager
    assert closed.is_closed
    assert not within_closed.is_closed
    assert outer.run_emergency("short").order == ("open", "within", "garbage collection")
    assert closed.run_emergency("short").order == ("within", "garbage collection")
    assert closed.run_scheduled().order == ()
    for each in (outer, open_inside, within_closed):
        each.close()


def test_an_emergency_from_within_a_handler_inside_is_refused() -> None:
    """A handler of an inner manager that asks for the outer one's emergency would run itself again."""
    outer = CleanupManager()
    inner = CleanupManager(enclosing=outer)
    inner.register("recursive", lambda: outer.run_emergency("again"), on=("emergency",))
    report = outer.run_emergency("short")
    assert "asked for from within a cleanup handler" in report.failures[0]
