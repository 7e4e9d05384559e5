"""The page at `/`: which jobs there are, how far they are, and where to point a client."""

from __future__ import annotations

import asyncio
from html import escape
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, Response

from airflow_batch_provider.emulator.clock import rfc3339

if TYPE_CHECKING:
    from starlette.requests import Request

    from airflow_batch_provider.emulator.core import Emulator
    from airflow_batch_provider.emulator.job import Job

_STYLE = """
:root { color-scheme: light dark; --line: #d9dee5; --soft: #5d6875; --bar: #2f6fde; --bad: #c4314b; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --line: #333b45; --soft: #9aa5b1; --bar: #6ea0ff; --bad: #ff7a90; --card: #1b2027; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; } p, .soft { color: var(--soft); } code { font-size: .9em; }
table { border-collapse: collapse; width: 100%; margin-top: 1rem; font-size: .9rem; } td, th { padding: .45rem .6rem; text-align: left; }
th { font-weight: 600; color: var(--soft); border-bottom: 2px solid var(--line); } td { border-bottom: 1px solid var(--line); }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; } dl { display: grid; grid-template-columns: max-content 1fr;
gap: .2rem 1rem; background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .8rem 1rem; } dd { margin: 0; }
td { overflow-wrap: anywhere; } td.n { overflow-wrap: normal; } progress { width: 6rem; accent-color: var(--bar); vertical-align: middle; } .bad { color: var(--bad); }
:target { background: var(--card); outline: 2px solid var(--bar); }
"""
_SHOWN = 200


class Page:
    """The page; all text that a client sent is escaped."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    async def show(self, request: Request) -> Response:
        """GET /."""
        jobs = [*reversed(self._emulator.jobs.all.values())]
        for job in jobs[:_SHOWN]:
            await asyncio.to_thread(self._emulator.jobs.advance, job)
        url = escape(f"{request.url.scheme}://{request.headers.get('host', '')}")
        html = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="5">'
            f"<title>Batch emulator</title><style>{_STYLE}</style><h1>Batch emulator</h1>"
            "<p>Anthropic, OpenAI and Gemini batches without a key and without cost.</p>"
            f"<dl><dt>Anthropic</dt><dd><code>{url}</code></dd><dt>OpenAI</dt><dd><code>{url}/v1</code></dd>"
            f"<dt>Gemini</dt><dd><code>{url}</code></dd><dt>Books</dt><dd><a href='/emulator/books'>/emulator/books</a></dd>"
            f"<dt>Time</dt><dd>{escape(rfc3339(self._emulator.clock.now()) or '')}</dd></dl>{_table(jobs)}"
        )
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        return HTMLResponse(html, headers={"content-security-policy": policy})


def _table(jobs: list[Job]) -> str:
    if not jobs:
        return "<p>No batch yet.</p>"
    heads = "".join(f"<th>{head}</th>" for head in ("Provider", "Batch", "Label", "Model", "State", "Rows", "Created"))
    rest = f"<p>The newest {_SHOWN} of {len(jobs)} batches.</p>" if len(jobs) > _SHOWN else ""
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(map(_row, jobs[:_SHOWN]))}</tbody></table>{rest}"


def _row(job: Job) -> str:
    total, done = len(job.rows), sum(job.counts.values())
    failed = total - job.counts["succeeded"] if job.ended else job.counts["failed"]
    bad = f' <span class="bad">{failed:,} bad</span>' if failed else ""
    label = job.label or ", ".join(f"{name}={value}" for name, value in job.metadata.items())
    bar = f'<progress max="{max(1, total)}" value="{done}"></progress> {done:,} / {total:,}{bad}'
    names = _cells("n", job.provider, job.id) + _cells("", label[:120], job.model.removeprefix("models/")[:80])
    state = _cells("n", job.phase)
    return f'<tr id="{escape(job.id)}">{names}{state}<td class="n">{bar}</td><td class="n">{escape((rfc3339(job.created) or "")[:19].replace("T", " "))}</td></tr>'


def _cells(style: str, *texts: str) -> str:
    return "".join(f'<td class="{style}">{escape(text)}</td>' for text in texts)
