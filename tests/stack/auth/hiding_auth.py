"""An auth manager for tests: one user may see every DAG but one."""

from __future__ import annotations

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

STRANGER = "stranger"
HIDDEN = "killable"


class HidingAuthManager(SimpleAuthManager):
    """Airflow's simple one, for which the DAG `killable` is hidden from the user `stranger`."""

    def is_authorized_dag(self, *, method, user, access_entity=None, details=None) -> bool:
        if user.username == STRANGER and details is not None and details.id == HIDDEN:
            return False
        return super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)
