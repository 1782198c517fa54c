"""Feature selection: which engineered columns predict the target better than noise does.

Comes in: a source of columns and a target. Goes out: the names of the columns that autofeat would choose. This
room computes no feature and never holds the table: it reads columns in blocks, and what it keeps of the rows are
sums. Read select.py first, then run.py; lasso.py and sums.py are where regression spends its time.
"""

from memguard_integrations.autofeat.engine.selection.frame import select_features
from memguard_integrations.autofeat.engine.selection.select import DEFAULT_MEMORY_BYTES, Progress, select

__all__ = ["DEFAULT_MEMORY_BYTES", "Progress", "select", "select_features"]
