"""The AutoFeat engine: autofeat 2.1.3's features from code of its own, in a part of the memory and the time.

Comes in: columns of numbers and a target. Goes out: what autofeat would make of them. This room imports nothing of
autofeat. Read selection/ for how columns are chosen.
"""
