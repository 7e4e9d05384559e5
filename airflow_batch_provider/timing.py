"""Every grace, wait and lease of the package by one name; those that hang together are computed from each other."""

from __future__ import annotations

from datetime import timedelta

# What providers do.

# A new batch may be missing from lists and from look-ups for so long; none of the providers documents it, the lists were
# seen to lag by seconds (batch APIs measured 2026-11-22).
LIST_LAG = timedelta(seconds=60)
# A batch that the provider does not know so long after its create is not late but gone.
GONE_AFTER = 10 * LIST_LAG
# The triggerer wakes the worker for a batch that is not shown once the worker will take it for gone, and not before.
WAKE_AFTER = GONE_AFTER + timedelta(seconds=1)
# The answers of a batch may appear so long after its end; later, none will come.
RESULTS_LAG = timedelta(minutes=10)
# OpenAI documents up to 10 minutes in `cancelling` (batch guide, 2026-08); the others are quicker.
SETTLE = timedelta(minutes=15)
# The clock of a provider and ours may differ by so much.
CLOCK_SKEW = timedelta(minutes=10)
# The clock of a worker may be off by so much, a wrong time zone included; asked where the provider does not tell its time.
WORST_SKEW = timedelta(days=1)
# Batches end within 24 hours at OpenAI and 48 at Gemini (batch guides, 2026-11), so lists are read back a little further.
LOOK_BACK = timedelta(days=3)

# How long we wait.

# A worker waits so long in all for a provider that fails for a passing reason, then it gives up its slot.
WORKER_RETRY_BUDGET = timedelta(seconds=60)
# Pause between two tries of such a worker, when the provider does not say.
RETRY_PAUSE = timedelta(seconds=5)
# A task that gave up its slot comes back after so long, when the provider does not say.
COME_BACK = timedelta(seconds=60)
# Pause between two searches for a batch that may not be listed yet, and between two checks whether batches have settled.
SEARCH_PAUSE = timedelta(seconds=10)
# The requests of a batch that failed as a whole wait before they are submitted again: twice as long each time.
RESUBMIT_DELAY = timedelta(minutes=1)
LONGEST_RESUBMIT_DELAY = timedelta(hours=1)
# A submit lock that was not released after so long belongs to a worker that died.
LOCK_LEASE = timedelta(minutes=15)
# Pause between two tries to get the lock, and until a task that did not get it comes back.
LOCK_PAUSE = timedelta(seconds=1)
LOCK_COME_BACK = timedelta(seconds=30)
# Of two workers that ask for the rest of a budget at the same time, the first waits so long for the other to give way; one
# that has reserved its amount so long before has bought, or died and may have.
RESERVED_WAIT = timedelta(seconds=10)
RESERVED_OLD = timedelta(seconds=60)
# A place at the provider that was given and is not used, or a task that waits for one and was not seen, counts for so long.
PLACE_LEASE = timedelta(minutes=15)
# A task that waits for a place looks for it so often at least.
PLACE_PAUSE = timedelta(seconds=60)
# Shortest pause between two polls that a stage may ask for: a triggerer has thousands of them.
SHORTEST_POLL_PAUSE = timedelta(seconds=1)
# Longest pause between two polls while the provider or the storage cannot be reached.
LONGEST_POLL_PAUSE = timedelta(minutes=15)
# The scheduler may hear of a worker's exit after the event has queued the task again, and then fails the task
# (apache/airflow#66374, #67287, #72716; not fixed in 3.3.2). The reports there tell of 3 to 27 seconds, and here a busy
# machine took more than 5. Batches take minutes: delaying an event of a quicker one costs nothing.
EVENT_DELAY = timedelta(seconds=20)
# The trigger reports the deadline itself; Airflow's own timeout, so much later, only steps in when the trigger cannot.
DEADLINE_MARGIN = timedelta(minutes=30)
# Time that a stage's check has after the deadline, which gets a poll of its own.
CHECK_GRACE = timedelta(minutes=5)
# A progress record is written at most so often: it is a row in Airflow's database.
PROGRESS_INTERVAL = timedelta(seconds=60)
# A batch never lives longer: Gemini's hard limit is 48 hours, the others' 24 (their guides, 2026-09), and a queue in
# front of several batches may need several waves.
LONGEST_WAIT = timedelta(days=14)
# No provider keeps the answers of a batch longer: six weeks at Gemini, about 30 days at the others (their guides, 2026-11).
OLDEST_SUBMIT = timedelta(weeks=6)

# A deadline is near when so much of the time until it has passed.
NEAR = 0.8

# The process of a task waits so long at its end for its metrics and spans to leave.
FLUSH_LIMIT = timedelta(seconds=3)
# A notifier has so long; then the task goes on without it.
NOTIFY_LIMIT = timedelta(seconds=30)

# The relations that the protocol rests on; `tests/test_timing.py` says what each is good for.
assert LIST_LAG < GONE_AFTER < WAKE_AFTER
assert LONGEST_WAIT < OLDEST_SUBMIT
assert not LIST_LAG % SEARCH_PAUSE
assert RETRY_PAUSE < WORKER_RETRY_BUDGET
assert LOCK_LEASE > LIST_LAG + WORKER_RETRY_BUDGET
assert LOCK_PAUSE < RESERVED_WAIT < LOCK_COME_BACK < RESERVED_OLD
assert SETTLE > RESULTS_LAG
assert PLACE_LEASE > 5 * PLACE_PAUSE
assert RESUBMIT_DELAY <= LONGEST_RESUBMIT_DELAY < LONGEST_WAIT
assert EVENT_DELAY + LONGEST_POLL_PAUSE + CHECK_GRACE < DEADLINE_MARGIN
assert timedelta(hours=48) + CLOCK_SKEW < LOOK_BACK
