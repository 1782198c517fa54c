"""The plugin as pytest sees it: a mark, a fixture, options. What looks for leaks is loaded when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from memguard.leaks.records import LeakReport
    from memguard_integrations.pytest.checking import Wish

__all__ = [
    "leakcheck",
    "pytest_addoption",
    "pytest_configure",
    "pytest_pyfunc_call",
    "pytest_report_header",
]

_MARK: Final = "leakcheck"
_MARK_HELP: Final = (
    'leakcheck(iterations=40, limit="1 KiB/iteration"): run the test again and again, and fail it if an iteration '
    "keeps more"
)
_is_repeating: Final = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the options."""
    group = parser.getgroup("memguard", "memory leaks")
    group.addoption(
        "--leakcheck",
        action="store_true",
        help="look for leaks in every test function, not only in marked ones",
    )
    group.addoption(
        "--no-leakcheck", action="store_true", help="run tests marked leakcheck once, like all others"
    )
    group.addoption(
        "--leakcheck-iterations",
        type=int,
        metavar="N",
        help="how often to run each; a mark's own figure counts first (default: 40)",
    )
    group.addoption(
        "--leakcheck-limit",
        metavar="SIZE",
        help="what an iteration may keep; a mark's own figure counts first (default: 1 KiB)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", _MARK_HELP)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say why it takes so long, where every test is repeated."""
    if not config.getoption("--leakcheck") or config.getoption("--no-leakcheck"):
        return None
    times = config.getoption("--leakcheck-iterations") or 40
    return f"memguard: every test function runs {times} more times, to see whether it leaks"


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Run a test as ever; where leaks are looked for, again and again after it has passed."""
    result = yield
    if pyfuncitem.stash.get(_is_repeating, False) or not _is_checked(pyfuncitem):
        return result
    from memguard_integrations.pytest.checking import check_item  # noqa: PLC0415 - only who asks for it loads it

    pyfuncitem.stash[_is_repeating] = True
    try:
        check_item(pyfuncitem, _wish(pyfuncitem))
    finally:
        pyfuncitem.stash[_is_repeating] = False
    return result


def _is_checked(item: pytest.Function) -> bool:
    if item.config.getoption("--no-leakcheck"):
        return False
    return item.get_closest_marker(_MARK) is not None or bool(item.config.getoption("--leakcheck"))


def _wish(item: pytest.Function, **own: Any) -> Wish:
    from memguard_integrations.pytest.checking import wish_of  # noqa: PLC0415 - as above

    mark = item.get_closest_marker(_MARK)
    if mark is not None and mark.args:
        pytest.fail(
            "@pytest.mark.leakcheck takes names: leakcheck(iterations=40, limit='1 KiB')", pytrace=False
        )
    options = {
        "iterations": item.config.getoption("--leakcheck-iterations"),
        "limit": item.config.getoption("--leakcheck-limit"),
    }
    asked = {**options, **(mark.kwargs if mark is not None else {}), **own}
    return wish_of({name: value for name, value in asked.items() if value is not None})


@pytest.fixture
def leakcheck(request: pytest.FixtureRequest) -> Callable[..., LeakReport]:
    """Call ``leakcheck(function, iterations=40, limit="1 KiB")``: fails the test if the function leaks.

    Returns what was found as a `memguard.leaks.records.LeakReport`.
    """
    from memguard_integrations.pytest.checking import check_call  # noqa: PLC0415 - as above

    item = request.node

    def check(function: Callable[[], object], **wishes: Any) -> LeakReport:
        return check_call(function, _wish(item, **wishes))

    return check
