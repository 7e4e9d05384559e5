"""The names of the files below one storage root, each spelled here only, and the version of their layout.

```
=registry/                              what the deployment has at its providers
{dag}/{run}/{task}[/{map_index}]/       one task instance
    config.json suspended.json output.json progress.json   of its stage
    plan.json clock.json waves/ manifest.json …   of its ledger
```
"""

from __future__ import annotations

from typing import Literal

LAYOUT: Literal[1] = 1
"""Version of the names and of the records in the files; a reader refuses any other."""

# Of the deployment. Beside the DAGs' folders; no DAG id may hold an equals sign.
REGISTRY = "=registry"

# Of the stage, whatever it does.
CONFIG = "config.json"
SUSPENDED = "suspended.json"
OUTPUT = "output.json"
RECORD = "progress.json"

# Of the ledger.
PLAN = "plan.json"
CLOCK = "clock.json"
WAVES = "waves"
WAVE = "wave.json"
MANIFEST = "manifest.json"
UNMET = "manifest.unmet.json"
LANDED = "landed.json"
RESULTS = "results"
SUPERSEDED = "superseded"

# Of a stage's own client: one folder for each submission, which holds a ledger and a record for later processes.
SUBMISSIONS = "submissions"
SUBMISSION = "submission.json"
