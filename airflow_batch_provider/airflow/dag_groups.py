"""The tags and the team of DAGs, as Airflow's database has them now; for commands, which reach it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

DagGroup: TypeAlias = Literal["tag", "team"]


def dag_groups(group: DagGroup, dag_ids: Collection[str]) -> Mapping[str, tuple[str, ...]]:
    """Return the tags, or the team, of each of these DAGs that has any."""
    if not dag_ids:  # nothing has landed, perhaps on a machine without a database
        return {}
    pairs = _tags(dag_ids) if group == "tag" else _teams(dag_ids)
    names: dict[str, list[str]] = defaultdict(list)
    for dag_id, name in sorted(pairs):
        names[dag_id].append(name)
    return {dag_id: tuple(found) for dag_id, found in names.items()}


def _tags(dag_ids: Collection[str]) -> list[tuple[str, str]]:
    from airflow.models.dag import DagTag  # noqa: PLC0415 — tasks and triggers may not import Airflow's models
    from airflow.utils.session import create_session  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    with create_session() as session:
        found = session.execute(select(DagTag.dag_id, DagTag.name))
        return [(dag_id, name) for dag_id, name in found if dag_id in dag_ids]


def _teams(dag_ids: Collection[str]) -> list[tuple[str, str]]:
    from airflow.models.dag import DagModel  # noqa: PLC0415

    teams_of = getattr(DagModel, "get_dag_id_to_team_name_mapping", None)
    if teams_of is None:  # Airflow 3.1 has no teams
        return []
    return [(dag_id, name) for dag_id, name in teams_of(list(dag_ids)).items() if name]
