"""`@task.batch_generate` and `@task.batch_embed`."""

from __future__ import annotations
