"""Leaks the source of generated functions in linecache, as sympy's lambdify does."""

import linecache

TRUTH = {"leaks": True, "kind": ("cache", "python"), "bytes": 900, "names": ["linecache"]}


def iteration(number: int) -> None:
    """Make a function from text, with its source for tracebacks."""
    name = f"<generated {number}>"
    lines = [f"def made(value): return value * {number} + {place}\n" for place in range(8)]
    space: dict[str, object] = {}
    exec(compile("".join(lines), name, "exec"), space)
    linecache.cache[name] = (len(lines), None, lines, name)
