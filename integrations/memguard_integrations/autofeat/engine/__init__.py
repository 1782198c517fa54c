"""The AutoFeat engine: autofeat 2.1.3's features from code of its own, in a part of the memory and the time.

Comes in: columns of numbers and a target. Goes out: what autofeat would make of them, to the last bit where its own
choice is not arbitrary. This room imports nothing of autofeat, guards no job, and is told how much memory it may have.
Read columns.py, then expansion/ for how columns are made and selection/ for how they are chosen.
"""
