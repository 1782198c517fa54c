"""Threads of real libraries in real processes follow the number of jobs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from memguard import current_job
from memguard.worker.threads import ThreadFollower
from tests.support.guarded import Guarded, by_value, guarded, run_python

by_value(__name__)

ALL_LIBRARIES = """
import json
import numba
import numpy
from memguard.host import usable_cpus
from memguard.worker.threads import ThreadFollower

jobs, found = 1, []
follower = ThreadFollower(lambda: jobs, interval_s=0.0)
follower.apply()

from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

def numbers():
    blas = {each["filepath"]: each["num_threads"] for each in threadpool_info()}
    return [*blas.values(), numba.get_num_threads()]

numba.get_num_threads()
found.append(numbers())
for jobs in (1000, 1):
    follower.apply()
    found.append(numbers())
# The job's own limits work as ever, in another thread too: nobody holds the control of OpenBLAS.
import threading
def limited():
    with threadpool_limits(limits=1, user_api="blas"):
        found.append([each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"])
other = threading.Thread(target=limited)
other.start()
other.join()
found.append(numbers())
print(json.dumps([found, usable_cpus()]))
"""


@pytest.mark.requirement("R7.3")
def test_real_libraries_are_limited_and_given_back() -> None:
    """BLAS, numba and OpenMP have one thread beside a thousand jobs, and all they had when those have ended."""
    (before, beside, alone, limited, after), cpus = json.loads(run_python(ALL_LIBRARIES).stdout)
    assert len(before) >= 2  # OpenBLAS and numba; OpenMP where numba uses it
    assert beside == [1] * len(before)
    assert alone == [min(number, cpus) for number in before]
    assert limited == [1] * len(limited)
    assert after == alone


USER_LIMIT = """
import json
import numpy
from threadpoolctl import threadpool_info
from memguard.worker.threads import ThreadFollower

jobs, found = 1, []
follower = ThreadFollower(lambda: jobs, cpus=lambda: 64, interval_s=0.0)
for jobs in (1, 64, 1, 2):
    follower.apply()
    found.append(threadpool_info()[0]["num_threads"])
print(json.dumps(found))
"""


def test_what_the_user_set_in_the_environment_is_never_raised() -> None:
    """With OPENBLAS_NUM_THREADS=1 a job has one thread on any machine, however many processors are free."""
    limits = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = run_python(USER_LIMIT, env={**os.environ, **limits})
    assert json.loads(done.stdout) == [1, 1, 1, 1]


NOTHING_TO_DO = """
import sys
from memguard.worker.threads import ThreadFollower

ThreadFollower(lambda: 1000).apply()
import numpy
ThreadFollower(lambda: 1, cpus=lambda: 10**6).apply()
assert "threadpoolctl" not in sys.modules
ThreadFollower(lambda: 1000).apply()
assert "threadpoolctl" in sys.modules
"""


def test_nothing_is_imported_where_nothing_changes() -> None:
    """Without a library, or alone on the machine, a job does not pay for the one that sets threads."""
    done = run_python(NOTHING_TO_DO)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def jobs() -> Iterator[Guarded]:
    with guarded() as manager:
        yield manager


def followed(running: int) -> list[Any]:
    """Be a job that follows a number of jobs which changes."""
    import numpy as np
    from threadpoolctl import threadpool_info

    job = current_job()
    assert job is not None
    running_jobs = [running]
    job.threads = ThreadFollower(lambda: running_jobs[0], warn=job.warn, interval_s=0.0)
    numbers = []
    for running_jobs[0] in (running, 1):
        job.batch(1)
        numbers.append(threadpool_info()[0]["num_threads"])
    product = np.ones((200, 200)) @ np.ones((200, 200))
    return [numbers, float(product[0, 0])]


@pytest.mark.requirement("R7.3")
def test_a_guarded_job_follows(jobs: Guarded) -> None:
    """In a real job the library is limited at a checkpoint, raised again at another, and works as ever."""
    result = jobs.run(followed, 1000)
    (beside, alone), product = result.value
    assert beside == 1
    assert alone >= beside
    assert product == 200.0
    assert result.report.warnings == ()
