"""Task decorators: a function that returns or yields the requests becomes a batch."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory
from airflow.sdk.definitions.context import context_merge

from airflow_batch_provider.operators.batch import BatchOperator
from airflow_batch_provider.operators.embed import BatchEmbedOperator
from airflow_batch_provider.operators.generate import BatchGenerateOperator
from airflow_batch_provider.operators.opaque import OpaqueInput
from airflow_batch_provider.operators.tables import SourceFunction

try:
    from airflow.sdk.bases.decorator import determine_kwargs
except ImportError:  # Airflow 3.1
    from airflow.utils.operator_helpers import determine_kwargs  # type: ignore[attr-defined]  # checked against the newest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.sdk import Context

    from airflow_batch_provider.operators.base import StageOperator

# Arguments of the operators that the decorated function stands for.
_FROM_THE_FUNCTION = ("requests", "source")

_OPERATORS_FIELDS = ("prompt", "model", "conn_id", "result_path", "storage_path")


class _Asking(DecoratedOperator, BatchOperator):
    """Calls the function on the worker, once for each try; what it yields is streamed, never templated.

    With `prompt` or `key` it gives a table, as the function of a `source` does.
    """

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *_OPERATORS_FIELDS)

    def __init__(
        self, *, python_callable: Callable[..., Any], prompt: str | None = None, key: str | None = None, **kwargs: Any
    ) -> None:
        rows: dict[str, Any] = {"requests": f"what {python_callable.__name__}() yields"}
        if prompt is not None or key is not None:
            rows = {"source": python_callable, "prompt": prompt, "key": key}
        super().__init__(python_callable=python_callable, **rows, **kwargs)

    def execute(self, context: Context) -> Any:
        """Ask what the function returns or yields; ends with the manifest, or by deferring the task."""
        context_merge(context, self.op_kwargs)
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        given = self.python_callable(*self.op_args, **kwargs)
        if self.source is None:
            self.requests = OpaqueInput(given)
        else:
            self.source = SourceFunction(lambda: given, self.python_callable.__name__)
        return self._ask(context)


class _GenerateDecorated(_Asking, BatchGenerateOperator):
    custom_operator_name = "@task.batch_generate"
    template_fields: Sequence[str] = (*_Asking.template_fields, "system")


class _EmbedDecorated(_Asking, BatchEmbedOperator):
    custom_operator_name = "@task.batch_embed"


def _sign(decorator: Callable[..., TaskDecorator], operator: type[StageOperator]) -> None:
    """Show the operator's arguments as the decorator's, in help, editors and generated pages."""
    wanted = inspect.signature(operator).parameters.values()
    taken = [one for one in wanted if one.name not in _FROM_THE_FUNCTION]
    function = inspect.signature(decorator).parameters["python_callable"]
    shown = inspect.Signature([function, *taken], return_annotation="TaskDecorator")
    decorator.__signature__ = shown  # type: ignore[attr-defined]  # read by `inspect.signature`


def batch_generate_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """`@task.batch_generate(model=…)`: arguments of `BatchGenerateOperator`, requests from the function.

    Args:
        python_callable: returns or yields str, dict or `BatchRequest`; may be a generator, which is streamed. With `prompt` or
            `key` it gives what a function as `source` gives: a table as Arrow or as a frame, or an iterator of such pieces or of
            dicts.
        **kwargs: the arguments of `BatchGenerateOperator`, without `requests` and `source`.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_GenerateDecorated, **kwargs
    )


def batch_embed_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """`@task.batch_embed(model=…)`: arguments of `BatchEmbedOperator`, requests from the function.

    Args:
        python_callable: returns or yields texts; may be a generator, which is streamed. With `prompt` or `key` as that of
            `@task.batch_generate`.
        **kwargs: the arguments of `BatchEmbedOperator`, without `requests` and `source`.
    """
    return task_decorator_factory(python_callable=python_callable, decorated_operator_class=_EmbedDecorated, **kwargs)


_sign(batch_generate_task, BatchGenerateOperator)
_sign(batch_embed_task, BatchEmbedOperator)
