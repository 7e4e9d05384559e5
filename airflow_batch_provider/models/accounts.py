"""Who is asked, who pays, and the Airflow connection that says so."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SecretStr

from airflow_batch_provider.frozen import FrozenModel


class Account(FrozenModel):
    """Who is asked and who pays: one Airflow connection, in the providers' terms.

    Attributes:
        provider: a name in `providers.PROVIDERS`.
        api_key: never shown in repr, logs or state.
        base_url: None means the provider's own address.
        options: further settings of the connection, by provider (see `docs` of each provider module).
    """

    provider: str
    api_key: SecretStr
    base_url: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class ConnectionRef(FrozenModel):
    """An Airflow connection, with the provider that the model's name points to.

    The provider travels along because some connections name none (`generic`, `pydanticai`), and so that a model on the
    wrong connection is refused before anything is paid.

    Attributes:
        provider: a name in `providers.PROVIDERS`; None where neither a model nor a person names one.
    """

    conn_id: str = Field(min_length=1)
    provider: str | None = None

    def __str__(self) -> str:
        """Return the connection's id, as people know it."""
        return self.conn_id
