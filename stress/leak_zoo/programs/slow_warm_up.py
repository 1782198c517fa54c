"""Learns quickly at first and ever less: a table grows by a tenth less at each iteration."""

TRUTH = {"leaks": False}
TABLE: list[bytes] = []


def iteration(number: int) -> None:
    """Learn."""
    for _ in range(int(200 * 0.9**number)):
        TABLE.append(bytes([number % 251]) * 500)
