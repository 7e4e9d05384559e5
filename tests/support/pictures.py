"""Takes the pictures of README and docs: `make screenshots`.

A real Airflow shows the page; its tasks wait for batches of an emulator. How far they are is an example, written over the
records of these tasks, for no emulator works for hours.
"""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from browser import chromium, logged_in, program
from playwright.sync_api import expect
from scenes import endless

from airflow_batch_provider.demo.connections import to_emulator
from airflow_batch_provider.demo.stack import PASSWORD, USERNAME, AirflowStack
from airflow_batch_provider.models import Cost, ErrorDigest, ErrorReason, Usage
from airflow_batch_provider.stages.progress import Progress, ShownBatch, ShownCounts

if TYPE_CHECKING:
    from browser import Scheme
    from playwright.sync_api import Browser

HERE = Path(__file__).parent
IMAGES = HERE.parents[1] / "docs" / "images"
NOW = datetime.now(UTC)
RUN = f"nightly-{NOW:%F}"
CONSOLE = "https://platform.openai.com/batches/"
REFUSED = ErrorReason(code="invalid_prompt", message="The prompt was refused by the safety system.", count=31,
                      sample=("ticket-20417", "ticket-20982", "ticket-23555"))  # fmt: skip
CUT = ErrorReason(code="invalid_output", message='at the top: "label" is a required property',
                  count=12, sample=("ticket-18003", "ticket-19244"))  # fmt: skip


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def batches(prefix: str, requests: int, done: list[int], hours: float, wave: int = 0, state="processing"):
    """Batches of one size, of which so many rows each are done."""
    return tuple(
        ShownBatch(
            batch_id=f"{prefix}{number:02x}c1e4f7a9b2{number:04x}",
            wave=wave,
            state=state,
            requests=requests,
            succeeded=rows - rows // 400,
            failed=rows // 400,
            submitted_at=ago(hours),
            url=f"{CONSOLE}{prefix}{number:02x}",
        )
        for number, rows in enumerate(done)
    )


def record(stage: str, provider: str, model: str, state: str, total: int, good: int, failed: int, **more) -> Progress:
    done = good + failed
    fields = {
        "message": f"{done:,} of {total:,} requests are done.",
        "progress": round(100 * done / total, 1),
        "counts": ShownCounts(total=total, done=done, succeeded=good, failed=failed),
        "seen_at": NOW,
    }
    return Progress(stage=stage, provider=provider, model=model, state=state, **{**fields, **more})


def waiting(hours: float, cost: float, most: float, tokens: int) -> dict:
    """Fields of a stage in flight that began some hours ago."""
    return {
        "started_at": ago(hours),
        "deadline": ago(hours) + timedelta(hours=24),
        "cost": Cost(usd=cost, saved_usd=cost, source="genai-prices"),
        "estimate": Cost(usd=most),
        "usage": Usage(input_tokens=tokens, output_tokens=tokens // 9, cached_tokens=tokens // 4),
    }


def ended(cost: float, tokens: int, **more) -> dict:
    return {
        "cost": Cost(usd=cost, saved_usd=cost, source="genai-prices"),
        "usage": Usage(input_tokens=tokens, output_tokens=tokens // 9),
        "results": f"s3://lake/batches/{RUN}/results.jsonl",
        **more,
    }


def records() -> dict[tuple[str, str], Progress]:
    """What each task shows."""
    first = batches("msgbatch_01", 10_000, [10_000, 10_000], 5.2, state=None)
    tickets = record(
        "batch-generate", "anthropic", "claude-haiku-4-5", "waiting", 50_000, 31_377, 43, **waiting(5.2, 38.41, 96.0, 14_300_000),
        batches=batches("msgbatch_02", 10_000, [8_420, 3_000, 0], 5.2), landed=first, open_batches=3, landed_batches=2,
        pace="6,042 requests an hour, so the end may be at 3 hours from now.", errors=ErrorDigest(reasons=(REFUSED, CUT)),
    )  # fmt: skip
    catalog = record(
        "batch-generate", "google", "gemini-2.5-flash", "waiting", 120_000, 98_240, 12, **waiting(20.1, 61.9, 88.0, 31_800_000),
        batches=batches("batches/9x", 40_000, [18_252], 20.1, wave=1), open_batches=1, landed_batches=3, wave=1,
    )  # fmt: skip
    index = record(
        "batch-embed", "openai", "text-embedding-3-small", "waiting", 1_000_000, 412_000, 0, **waiting(1.6, 4.12, 10.4, 412_000_000),
        batches=batches("batch_68", 50_000, [22_000] * 4, 1.6), open_batches=11, landed_batches=8, queued_batches=1,
    )  # fmt: skip
    unresolved = record(
        "batch-generate", "openai", "gpt-5-mini", "unresolved", 8_000, 0, 0, seen_at=ago(0.4), started_at=ago(1), deadline=ago(-23),
        message="A submit went unanswered, and no batch at the provider bears its tag.", estimate=Cost(usd=5.2),
        next_action="The batch may or may not have been created. Look at the provider's console, then say which it is: airflow "
        "batches adopt 7f3a9c-0-00000 BATCH_ID, or that it is none of them: airflow batches absent 7f3a9c-0-00000.",
    )  # fmt: skip
    done = record(
        "batch-generate", "anthropic", "claude-haiku-4-5", "succeeded", 20_000, 19_988, 12, seen_at=ago(2.5),
        **ended(17.3, 5_900_000, rows={"succeeded": 19_988, "failed": 12}), landed=first, landed_batches=2,
    )  # fmt: skip
    translated = record(
        "batch-generate", "openai", "gpt-4.1-mini", "succeeded", 64_000, 64_000, 0, seen_at=ago(9),
        **ended(22.85, 18_200_000, rows={"succeeded": 64_000}), landed=batches("batch_71", 32_000, [32_000] * 2, 12), landed_batches=2,
    )  # fmt: skip
    return {
        ("support_tickets", "classify"): tickets,
        ("product_catalog", "describe"): catalog,
        ("search_index", "embed"): index,
        ("support_tickets", "summarise"): unresolved,
        ("reviews", "label"): done,
        ("reviews", "translate"): translated,
    }


def main() -> None:
    """Start everything, and take the pictures."""
    found = program()
    assert found, "Chromium is not installed: apt-get install chromium"
    with tempfile.TemporaryDirectory() as scratch, endless() as emulator:
        env = {**to_emulator(emulator), "AIRFLOW__BATCH_PROVIDER__STORAGE_PATH": f"file://{scratch}/batches"}
        with AirflowStack(Path(scratch) / "home", HERE / "picture_dags", env=env, say=print) as stack:
            _show(stack)
            IMAGES.mkdir(exist_ok=True)
            with chromium(found) as browser:
                for scheme in ("light", "dark"):
                    _take(browser, stack, scheme)


def _show(stack: AirflowStack) -> None:
    shown = records()
    for dag_id in dict.fromkeys(dag_id for dag_id, _ in shown):
        stack.require_dag(dag_id)
        stack.rest.trigger(dag_id, run_id=RUN)
    for (dag_id, task_id), progress in shown.items():
        path = f"/dags/{dag_id}/dagRuns/{RUN}/taskInstances/{task_id}"
        while stack.rest.get(path)["state"] != "deferred":
            time.sleep(0.5)
        time.sleep(2)  # the trigger's first poll writes a record, too
        body = {"value": progress.record(), "map_index": -1}
        stack.rest.send("PATCH", f"{path}/xcomEntries/batch_progress", body)


def _take(browser: Browser, stack: AirflowStack, scheme: Scheme) -> None:
    context = logged_in(browser, stack.url, USERNAME, PASSWORD, scheme, width=1360, height=760)
    page = context.new_page()
    page.goto("/plugin/llm-batches")
    expect(page.locator(".llmb-line")).to_have_count(6)
    expect(page.locator(".llmb")).to_contain_text("Unresolved")
    page.wait_for_timeout(1000)
    page.screenshot(path=IMAGES / f"page-{scheme}.png")
    page.set_viewport_size({"width": 1360, "height": 1180})
    page.goto(f"/plugin/llm-batches?dag_id=support_tickets&run_id={RUN}&task_id=classify")
    expect(page.locator(".llmb-details")).to_contain_text("Why rows have no answer")
    page.wait_for_timeout(1000)
    page.screenshot(path=IMAGES / f"details-{scheme}.png")
    page.set_viewport_size({"width": 1360, "height": 760})
    page.goto(f"/plugin/llm-batches?dag_id=support_tickets&run_id={RUN}&task_id=summarise")
    expect(page.locator(".llmb-details")).to_contain_text("What to do next")
    page.wait_for_timeout(1000)
    page.screenshot(path=IMAGES / f"next-{scheme}.png")
    page.set_viewport_size({"width": 420, "height": 900})
    page.goto("/plugin/llm-batches")
    expect(page.locator(".llmb-line")).to_have_count(6)
    page.wait_for_timeout(1000)
    page.screenshot(path=IMAGES / f"narrow-{scheme}.png")
    context.close()


if __name__ == "__main__":
    main()
