"""One deployment with its registry, and an Airflow that says what it is told to."""

from __future__ import annotations

from fakes import Job
from upath import UPath

from airflow_batch_provider.fleet.deployment import Deployment
from airflow_batch_provider.fleet.prune import Pruner
from airflow_batch_provider.fleet.reconcile import Reconciler, Rules
from airflow_batch_provider.fleet.resolve import Resolver
from airflow_batch_provider.models import TaskKey
from airflow_batch_provider.storage import Directory

TASK = TaskKey("dag", "run", "task")


class World:
    """One deployment with one account at a provider; `states` is what Airflow would say."""

    def __init__(self, root, clock, provider, hub=None):
        self.deployment = Deployment(Directory(UPath(root)))
        self.clock = clock
        self.provider = provider
        self.hub = hub
        self.states = {}

    def job(self, requests=("a", "b"), **config):
        root = UPath(str(self.deployment.storage.root)) / "dag" / "run" / "task"
        registry = self.deployment.registry
        return Job(root, self.provider, self.clock, list(requests), hub=self.hub, registry=registry, **config)

    def ask(self, task):
        return self.states.get(task, "gone")

    async def inspect(self, providers=None, **rules):
        return await self._reconciler(rules).examine([self.provider] if providers is None else providers)

    async def reconcile(self, **rules):
        reconciler = self._reconciler(rules)
        return await reconciler.act(await reconciler.examine([self.provider]), [self.provider])

    def _reconciler(self, rules):
        return Reconciler(self.deployment, self.ask, self.clock, Rules(**rules))

    @property
    def phases(self):
        """What the emulator itself says of its batches."""
        return [job["phase"] for job in self.emulator.books()["jobs"]]

    @property
    def tags(self):
        return self.deployment.registry.tags()

    @property
    def resolver(self):
        return Resolver(self.deployment, self.ask, self.clock)

    @property
    def pruner(self):
        return Pruner(self.deployment, self.ask)
