"""Who holds an object: the shortest chains of references that keep it alive, told in types and names.

The search goes backward from the object through `gc.get_referrers`, one look at the heap a step. It does not
use `objgraph.find_backref_chain`, which calls `gc.collect()` before every search and so frees what it
should explain. Local variables of running functions are looked at apart: the collector does not see them.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import FrameType, ModuleType
from typing import Final
from weakref import ref

from memguard.leaks._naming import holds_as_dict, is_a, local_values, name_in, path_links

__all__ = ["Holder", "HolderKind", "SearchLimits", "find_holders"]

# Found holders beyond these say nothing new, and a message must stay readable.
_MOST_HOLDERS: Final = 5
_OWN_ROOM: Final = "memguard.leaks"
# One search at a time: the working tables of another one would look like holders. Reentrant, since a
# finalizer that runs during a search may start one.
_searching = threading.RLock()


class HolderKind(StrEnum):
    """What keeps an object alive in the end.

    ``module``: a module's globals. ``class``: an attribute of a class. ``frame``: a local variable of a
    running function. ``cycle``: nothing but references among the objects of a cycle; only the collector
    can free it. ``native``: something that Python objects do not show: an extension, an array of objects,
    a running expression, an exception being handled. ``unfinished``: not found within the search's limits.
    """

    MODULE = "module"
    CLASS = "class"
    FRAME = "frame"
    CYCLE = "cycle"
    NATIVE = "native"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Holder:
    """One chain of references, from what holds to what is held; no value of any object is in it.

    Attributes:
        kind: what stands at its beginning.
        root: that beginning in words.
        chain: types with the attribute, place or variable that leads on; the object's own type comes last.
    """

    kind: HolderKind
    root: str
    chain: tuple[str, ...]

    def __str__(self) -> str:
        chain = " -> ".join(self.chain)
        # A name and what is bound to it read as one, "CACHE dict['...']"; the object itself stands apart.
        joint = " " if len(self.chain) > 1 or self.root.endswith(":") else " -> "
        return f"{self.root}{joint}{chain}"


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """Where a search gives up.

    Attributes:
        time_s: seconds; a step takes about 15 ms in a process with 200,000 objects, and more with more.
        objects: holders that are looked at, direct and indirect.
    """

    time_s: float = 1.0
    objects: int = 2000


def find_holders(target: ref[object], limits: SearchLimits | None = None) -> tuple[Holder, ...]:
    """Tell who keeps an object alive.

    Every object that refers to it directly is followed to its shortest beginning; where two share the
    way it is told once. Does not call `gc.collect()`, does not compare or hash the objects on the way,
    and does not see holders that came or went while it looked.

    Args:
        target: a weak reference, so that the caller's own hold is not among the findings.
        limits: when to give up; by default after a second.

    Returns:
        Five holders at most, nearest first; empty when the object is dead.
    """
    with _searching:
        search = _Search(target, limits or SearchLimits())
        return search.holders()


class _Search:
    """One breadth-first search backward; all objects on the way are held in one table, which is no holder."""

    def __init__(self, target: ref[object], limits: SearchLimits) -> None:
        self._target = target
        self._target_id = 0
        self._limits = limits
        self._give_up_s = time.monotonic() + limits.time_s
        self._objects: dict[int, object] = {}
        self._leads_to: dict[int, int] = {}
        self._branch: dict[int, int] = {}
        self._referrers: dict[int, list[int]] = {}
        self._settled: set[int] = set()
        self._found: dict[Holder, None] = {}
        self._module_names = _module_names()
        self._variables = _running_variables()

    def holders(self) -> tuple[Holder, ...]:
        model = self._target()
        if model is None:
            return ()
        self._target_id = id(model)
        self._objects[self._target_id] = model
        del model
        self._look_at_variables(self._target_id)
        finished = self._walk()
        if not finished:
            self._add(HolderKind.UNFINISHED, "not found in time; seen so far:", next(reversed(self._objects)))
        elif not self._found:
            self._explain_island()
        return tuple(self._found)[:_MOST_HOLDERS]

    def _walk(self) -> bool:
        """Follow references backward; tell whether every holder was followed to its end."""
        queue = deque([self._target_id])
        while queue and len(self._found) < _MOST_HOLDERS:
            node = queue.popleft()
            if self._branch.get(node) in self._settled:
                continue
            if time.monotonic() > self._give_up_s or len(self._objects) > self._limits.objects:
                return False
            queue.extend(self._step(node))
        return True

    def _step(self, node: int) -> list[int]:
        """Look at who refers to one object; return those that were not known and are no beginning."""
        discovered = []
        places = self._referrers[node] = []
        for referrer in gc.get_referrers(self._objects[node]):
            if referrer is self._objects:
                continue
            places.append(id(referrer))
            if id(referrer) not in self._objects and not self._is_beginning(referrer, node):
                discovered.append(self._remember(referrer, node))
        return discovered

    def _remember(self, referrer: object, node: int) -> int:
        place = id(referrer)
        self._objects[place] = referrer
        self._leads_to[place] = node
        self._branch[place] = place if node == self._target_id else self._branch[node]
        self._look_at_variables(place)
        return place

    def _is_beginning(self, referrer: object, node: int) -> bool:
        held = self._objects[node]
        if (module := self._module_names.get(id(referrer))) is not None:
            self._add(HolderKind.MODULE, f"module {module}: {name_in(referrer, held)}", node)
        elif is_a(referrer, ModuleType):
            self._add(HolderKind.MODULE, "a module that sys.modules does not have:", node)
        elif is_a(referrer, type):
            # It is the class's dict that holds; the attribute in it leads on.
            further = self._leads_to.get(node, node)
            name = name_in(held, self._objects[further])
            self._add(
                HolderKind.CLASS, f"class {referrer.__module__}.{referrer.__qualname__}: {name}", further
            )
        else:
            return False
        return True

    def _look_at_variables(self, node: int) -> None:
        for function in self._variables.get(node, ()):
            self._add(HolderKind.FRAME, f"running function {function}", node)

    def _add(self, kind: HolderKind, root: str, node: int) -> None:
        links = path_links([self._objects[each] for each in self._path(node)])
        self._found[Holder(kind, root, tuple(links))] = None
        if node in self._branch:
            self._settled.add(self._branch[node])

    def _path(self, node: int) -> list[int]:
        path = [node]
        while path[-1] != self._target_id:
            path.append(self._leads_to[path[-1]])
        return path

    def _explain_island(self) -> None:
        """Nothing that Python shows leads to the object: say what does, a hidden reference or a cycle."""
        hidden = [node for node in self._referrers if self._unseen_references(node) > 0]
        if hidden:
            self._add(HolderKind.NATIVE, "native code or a running expression:", hidden[0])
        elif changed := [node for node, holders in self._referrers.items() if not holders]:
            self._add(HolderKind.UNFINISHED, "let go while it was searched for:", changed[0])
        else:
            self._add_cycle()

    def _add_cycle(self) -> None:
        path = [self._objects[each] for each in self._cycle()]
        self._found[Holder(HolderKind.CYCLE, "cycle:", tuple(path_links(path)))] = None

    def _unseen_references(self, node: int) -> int:
        seen = sum(_count_references(self._objects[each], node) for each in self._referrers[node])
        # Two are our own: the table's, and the one that getrefcount itself is given.
        return sys.getrefcount(self._objects[node]) - seen - 2

    def _cycle(self) -> list[int]:
        """Return the way once around a cycle and on to the object, each object before what it holds."""
        trail = [self._target_id]
        while (before := self._nearest_referrer(trail[-1])) not in trail:
            trail.append(before)
        start = trail.index(before)
        around = [before, *reversed(trail[start:])]
        if holds_as_dict(self._objects[around[-2]], self._objects[before]):
            around.insert(0, around[-2])  # an attribute is told with the object that has it
        return around + trail[:start][::-1]

    def _nearest_referrer(self, node: int) -> int:
        # The object itself first: a cycle through it is the one that has to be broken.
        referrers = self._referrers[node]
        return self._target_id if self._target_id in referrers else referrers[0]


def _count_references(holder: object, held_id: int) -> int:
    return sum(id(each) == held_id for each in gc.get_referents(holder))


def _module_names() -> dict[int, str]:
    # Asked past the module's own __getattribute__: that of a lazy module would import it. Backward, so that of
    # two names for one module the first counts: __main__, not multiprocessing's __mp_main__.
    return {
        id(object.__getattribute__(module, "__dict__")): name
        for name, module in reversed(list(sys.modules.items()))
        if is_a(module, ModuleType)
    }


def _running_variables() -> dict[int, list[str]]:
    """Map ids of objects to the local variables that hold them in running functions of all threads."""
    found: dict[int, list[str]] = {}
    for frame in _running_frames():
        module = frame.f_globals.get("__name__", "?")
        if not str(module).startswith(_OWN_ROOM):
            for name, place in local_values(frame):
                found.setdefault(place, []).append(f"{module}.{frame.f_code.co_qualname}: {name}")
    return found


def _running_frames() -> Iterator[FrameType]:
    for innermost in sys._current_frames().values():
        frame: FrameType | None = innermost
        while frame is not None:
            yield frame
            frame = frame.f_back
    del innermost  # this generator's own frame among others: it would keep itself alive


def _renew_lock() -> None:
    # The thread that searched at the fork does not exist in the child.
    global _searching  # noqa: PLW0603 - a lock can only be replaced, not freed for a thread that is gone
    _searching = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
