"""The whole terminal, for as long as something is shown on it that changes, and left as it was on every ending.

Comes in: lines to draw. Goes out: keys that were pressed and signals that came. Nothing interrupts a block with a
screen: signals are told as events, so that no exception can come between what is changed on the terminal and what sets
it back. ``kill -9`` alone leaves it as it is; then ``reset`` helps.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, Self

from memguard.cli.lines import Line

__all__ = ["Event", "Screen"]

# Another screen, no cursor, no wrapping of what is too long; and back.
_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _TO_END_OF_LINE, _TO_END, _PLAIN = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[0m"
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_TAKEN: Final = (*_ENDING, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)
_KEY: Final = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)
_NAMES: Final = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[C": "right",
    "\x1b[D": "left",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x1b": "escape",
}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        key: the key that was pressed, a letter or a name such as ``left``; ``""`` for none.
        ended_by: the number of the signal that asks to end; 0 for none.
    """

    key: str = ""
    ended_by: int = 0


class Screen:
    """The terminal of stdout, with the keys of stdin if that is one too.

    Args:
        coloured: whether lines have their styles; else there is nothing but their text.
    """

    def __init__(self, *, coloured: bool) -> None:
        self._coloured = coloured
        self._input = sys.stdin.fileno() if _is_terminal(sys.stdin) else None
        self._modes: list[Any] | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            for number in _TAKEN:
                if signal.getsignal(number) is not signal.SIG_IGN:  # by nohup, say
                    self._handlers[number] = signal.signal(number, _told_by_descriptor)
            self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            self._take_over()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # The terminal first: from the moment when the handlers are back, a signal may end everything.
        self._give_back()
        if hasattr(self, "_wakeup"):
            signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._reader)
        os.close(self._writer)

    def _take_over(self) -> None:
        if self._input is not None:
            if self._modes is None:
                self._modes = termios.tcgetattr(self._input)
            tty.setcbreak(self._input, termios.TCSADRAIN)
        _write(_ENTER)

    def _give_back(self) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone: there is nothing to set back
            _write(_PLAIN + _LEAVE)
        if self._input is not None and self._modes is not None:
            with contextlib.suppress(termios.error):  # as above
                termios.tcsetattr(self._input, termios.TCSADRAIN, self._modes)
                self._modes = None

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        # What COLUMNS says is for programs that print; a window that changes its size does not change it.
        try:
            size = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            size = shutil.get_terminal_size()
        return size.columns or 80, size.lines or 24

    def draw(self, lines: Iterable[Line]) -> None:
        """Show lines from the top, and nothing below them."""
        _write(_HOME + "\n".join(self._dressed(each) + _TO_END_OF_LINE for each in lines) + _TO_END)

    def _dressed(self, line: Line) -> str:
        return f"{line.style}{line.text}{_PLAIN}" if self._coloured and line.style else line.text

    def wait(self, timeout_s: float) -> Iterator[Event]:
        """Wait until something happens or time is up; yields what did. A changed window is an event without a key."""
        watched = [self._reader] if self._input is None else [self._reader, self._input]
        readable = select.select(watched, [], [], max(0.0, timeout_s))[0]
        if self._reader in readable:
            yield from self._signals()
        if self._input in readable:
            yield from self._keys()

    def _signals(self) -> Iterator[Event]:
        with contextlib.suppress(BlockingIOError):
            for number in os.read(self._reader, 256):
                if number == signal.SIGTSTP:
                    self._pause()
                elif number == signal.SIGCONT:
                    self._take_over()  # whoever stopped it may have changed the terminal
                yield Event(ended_by=number if number in _ENDING else 0)

    def _pause(self) -> None:
        """Stop as any program does at Ctrl-Z, with the terminal as it was, until somebody continues it."""
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, _told_by_descriptor)
        self._take_over()

    def _keys(self) -> Iterator[Event]:
        assert self._input is not None
        try:
            typed = os.read(self._input, 1024)
        except OSError:
            typed = b""
        if not typed:  # nobody is at the other end any more
            yield Event(ended_by=signal.SIGHUP)
        for key in _KEY.findall(typed.decode(errors="ignore")):
            name = _NAMES.get(key, key)
            if len(key) == 1 or name != key:  # a key that is not known here says nothing
                yield Event(key=name)


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def _told_by_descriptor(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: Python writes the number to the descriptor for waking."""


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
