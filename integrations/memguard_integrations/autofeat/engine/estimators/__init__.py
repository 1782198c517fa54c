"""The estimators: what people hold, with autofeat's arguments and attributes and scikit-learn's contract.

Comes in: a frame or an array and a target. Goes out: named columns, formulas, a linear model; from a fitted one,
columns and predictions for new rows, without anything compiled. This room engineers and selects nothing itself: it
asks ``expansion`` and ``selection``, and only in ``fit``. Read ``model.py``, then ``fitting.py`` for what is learned
and ``recipe.py`` for what is done to new rows.
"""
