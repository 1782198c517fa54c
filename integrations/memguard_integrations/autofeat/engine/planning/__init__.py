"""How a fit is to be done: as it was asked for, with columns on disk, or with less.

Comes in: a table, a request, a bound of memory. Goes out: the columns that were chosen, and in words what was left out
for it. This room neither engineers nor selects, and what it leaves out it tells. Read choosing.py first; the policy is
pure and stands in `memguard.estimate.light`.
"""
