"""Where people look at their batches in the providers' own consoles."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from airflow_batch_provider.models import Account

# The providers' documentation names no addresses, so these are the ones that public projects print for their users, read
# on 26 November 2026; they need a login, so no test opens them. OpenAI: "Check
# https://platform.openai.com/batches/{batch.id} for more details". Anthropic: ".../workspaces/default/batches?batch=<BATCH_ID>",
# which is the default workspace's. Google's AI Studio has no page of batches that anybody names.
_LISTS = {
    "anthropic": "https://platform.claude.com/workspaces/default/batches",
    "openai": "https://platform.openai.com/batches",
}
_PAGES = {
    "anthropic": f"{_LISTS['anthropic']}?batch={{batch_id}}",
    "openai": f"{_LISTS['openai']}/{{batch_id}}",
}

# The ids that the providers really give; anything else came from a hostile reply and gets no link of its own.
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def console_url(account: Account, batch_id: str) -> str | None:
    """Return the page of a batch, or of all batches; None where there is none that we know.

    A connection to another server than the provider's own names its page by the option `console`, in which
    `{batch_id}` stands for the batch.
    """
    if console := account.options.get("console"):
        return str(console).replace("{batch_id}", quote(batch_id, safe=""))
    if account.base_url is not None:
        return None
    page = _PAGES.get(account.provider)
    if page is not None and _ID.fullmatch(batch_id):
        return page.format(batch_id=batch_id)
    return _LISTS.get(account.provider)
