"""recycling: workers of other libraries that are replaced when what they do leaks.

Comes in: jobs that joblib's or loky's processes or Dask's workers run. Goes out: the same results, a new process in the
place of one that leaks, and its report. Ending processes is left to the library that started them. Read loky.py or
dask.py; who decides is memguard/leaks/recycling.py.
"""
