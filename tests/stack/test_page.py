"""The page "LLM batches" in a real browser on a real Airflow, whose batches an emulator works on."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from axe_core_python.sync_playwright import Axe
from browser import WAIT, logged_in
from playwright.sync_api import expect
from scenes import begin, endless

from airflow_batch_provider.amounts import dollars
from airflow_batch_provider.demo.stack import PASSWORD, USERNAME
from airflow_batch_provider.plugins.batches import TAB_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Locator, Page
    from scenes import Scene

    from airflow_batch_provider.demo.stack import AirflowStack

PAGE = "/plugin/llm-batches"
STAGES = Path(__file__).parents[1] / "support" / "many_stages.js"
SERIOUS = {"serious", "critical"}
POLL = 6_000
"""Milliseconds after which the page has asked again."""


@pytest.fixture(scope="module")
def scenes(stack: AirflowStack) -> Iterator[dict[str, Scene]]:
    """Three tasks that wait for a batch each until it is told to end; begun together, because that takes a while."""
    stack.require_dag("killable")
    with ExitStack() as emulators:
        names = {"seen": "openai", "ends": "anthropic", "cleared": "gemini"}
        yield {
            name: begin(stack, emulators.enter_context(endless()), name, provider) for name, provider in names.items()
        }


@pytest.fixture(scope="module")
def scene(scenes: dict[str, Scene]) -> Scene:
    """The one that goes on."""
    scenes["seen"].wait_until_waiting()
    return scenes["seen"]


def line(page: Page, run: str) -> Locator:
    """The line of a run."""
    return page.locator(".llmb-line").filter(has_text=run)


def record(scene: Scene) -> dict:
    return scene.stack.rest.get(f"{scene.path}/xcomEntries/batch_progress")["value"]


def change_record(scene: Scene, **fields: object) -> None:
    """Overwrite fields of the record, as a trigger would write it."""
    body = {"value": record(scene) | fields, "map_index": -1}
    scene.stack.rest.send("PATCH", f"{scene.path}/xcomEntries/batch_progress", body)


@pytest.fixture
def kept(scene: Scene) -> Iterator[Scene]:
    """The scene, whose record a test may change."""
    before = record(scene)
    yield scene
    scene.stack.rest.send("PATCH", f"{scene.path}/xcomEntries/batch_progress", {"value": before, "map_index": -1})


def test_the_navigation_leads_to_the_stages_that_wait(page: Page, scene: Scene):
    """With who is asked, for how many rows, in which batch, and at most for how much."""
    page.goto("/")
    page.get_by_role("link", name="Batches").click()
    shown = line(page, scene.run.run_id)
    for words in ("killable", "Waiting", "gpt-5-mini", "openai", "0 of 3", "at most $", "of 1 h"):
        expect(shown).to_contain_text(words)
    link = shown.get_by_role("link")
    assert link.get_attribute("href") == f"{scene.emulator.url}/#{scene.job['id']}"


def test_a_line_moves_while_its_rows_are_answered_without_being_drawn_again(page: Page, kept: Scene):
    """What is open stays open, and the element stays the same."""
    page.clock.install()
    page.goto(PAGE)
    shown = line(page, kept.run.run_id)
    shown.get_by_role("button", name="ask").click()
    details = page.locator(".llmb-details")
    expect(details).to_contain_text("Waves and batches")
    shown.evaluate("element => { element.same = true; }")
    change_record(kept, counts={"total": 3, "done": 2, "succeeded": 1, "failed": 1})
    page.clock.run_for(POLL)

    expect(shown).to_contain_text("2 of 3")
    expect(shown).to_contain_text("1 failed")
    assert shown.evaluate("element => element.same") is True
    expect(details).to_be_visible()


def test_a_stage_ends_right(page: Page, scenes: dict[str, Scene]):
    """From waiting to done, with its receipt, while the page is open."""
    ending = scenes["ends"]
    ending.wait_until_waiting()
    page.goto(PAGE)
    shown = line(page, ending.run.run_id)
    expect(shown).to_contain_text("Waiting")
    ending.require_success()
    expect(shown).to_contain_text("Done", timeout=WAIT)
    expect(shown).to_contain_text("3 of 3")
    expect(shown).to_contain_text("saved")
    shown.get_by_role("button", name="ask").click()
    expect(page.locator(".llmb-details")).to_contain_text("3: 3 succeeded")
    expect(page.locator(".llmb-details")).to_contain_text("results.jsonl")


def test_the_page_survives_a_reload_and_an_api_that_is_gone(page: Page, scene: Scene):
    """It says since when it knows nothing new, shows what it knew, and goes on by itself."""
    page.clock.install()
    page.goto(f"{PAGE}?model=gpt-5-mini")
    expect(line(page, scene.run.run_id)).to_be_visible()
    page.reload()
    expect(line(page, scene.run.run_id)).to_be_visible()

    page.route("**/api/v2/**", lambda route: route.abort())
    page.clock.run_for(POLL)
    expect(page.get_by_role("alert")).to_contain_text("What you see was true at")
    expect(line(page, scene.run.run_id)).to_be_visible()
    page.unroute("**/api/v2/**")
    page.get_by_role("button", name="Try now").click()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_filters_travel_in_the_address(page: Page, scene: Scene):
    """So that a view can be sent to somebody."""
    page.goto(PAGE)
    expect(line(page, scene.run.run_id)).to_be_visible()
    page.get_by_label("Provider", exact=True).select_option("openai")
    page.wait_for_url("**provider=openai**")
    expect(line(page, scene.run.run_id)).to_be_visible()
    page.goto(f"{PAGE}?provider=openai&state=succeeded&model=none")
    expect(page.get_by_text("No stage is like that")).to_be_visible()
    page.get_by_role("button", name="Clear filters").click()
    expect(line(page, scene.run.run_id)).to_be_visible()


def test_both_links_of_a_deferred_task_lead_on(page: Page, scene: Scene):
    """One to its open line, one to the provider's console."""
    page.goto(f"/dags/killable/runs/{scene.run.run_id}/tasks/ask/details")
    console = page.get_by_role("link", name="Provider console")
    assert console.get_attribute("href") == f"{scene.emulator.url}/#{scene.job['id']}"
    batch = page.get_by_role("link", name="Batch", exact=True)
    page.goto(batch.get_attribute("href"))
    expect(page.locator(".llmb-line")).to_have_count(1)
    expect(page.locator(".llmb-details")).to_contain_text(scene.job["id"][:10])
    page.get_by_role("button", name="Show all").click()
    expect(page.get_by_label("DAG", exact=True)).to_be_visible()


def test_a_person_cancels_the_batches_of_a_task_on_the_page_and_clears_it(page: Page, scenes: dict[str, Scene]):
    """After a question each; Airflow marks the task, and later begins its next attempt."""
    stopped = scenes["cleared"]
    stopped.wait_until_waiting()
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    page.goto(f"{PAGE}?dag_id=killable&run_id={stopped.run.run_id}&task_id=ask")

    with page.expect_response("**/taskInstances/ask") as marked:
        page.get_by_role("button", name="Cancel its batches").click()
    assert marked.value.status == 200
    stopped.wait_for("failed")
    stopped.require_cancelled()
    change_record(stopped, state="paused", next_action="Pay or raise the limit, then clear the task.")
    page.reload()
    with page.expect_response("**/clearTaskInstances") as answer:
        page.get_by_role("button", name="Clear the task").click()

    assert answer.value.status == 200
    assert len(asked) == 2
    stopped.wait_until("a second attempt", lambda: stopped.task.try_number == 2)
    stopped.end_batch()


def test_an_open_line_has_the_commands_for_the_rest(page: Page, kept: Scene):
    """Cost and estimate always; cancel once no task waits for the batches, which Airflow's own way out cancels."""
    place = f"killable {kept.run.run_id} ask"
    page.goto(f"{PAGE}?dag_id=killable&run_id={kept.run.run_id}&task_id=ask")
    commands = page.locator(".llmb-commands")
    expect(commands.locator("code")).to_have_text(
        ["airflow batches cost --by task", "airflow batches estimate killable ask"]
    )
    change_record(kept, state="unresolved")
    page.reload()
    expect(commands.locator("code").first).to_have_text(f"airflow batches cancel {place}")


def test_ids_in_a_command_are_words_of_a_shell(page: Page, stack: AirflowStack):
    """A run may be named by anybody; a shell that is given the command takes the name as it is and runs none of it."""
    run = "it's $(reboot); `id` && -x"
    stage = {
        "dag": "a.b",
        "run": run,
        "task": "ask",
        "mapIndex": 3,
        "openBatches": 1,
        "state": "failed",
        "kind": "batch-process",
    }
    page.goto(PAGE)
    told = page.evaluate("async (stage) => (await import('/llm-batches/commands.js')).commandsOf(stage)", stage)
    words = [shlex.split(text) for _, text in told]
    assert words == [
        ["airflow", "batches", "cancel", "a.b", run, "ask", "--map-index", "3"],
        ["airflow", "batches", "cost", "--by", "task"],
    ]


def test_the_tab_of_a_task_shows_the_same_as_its_open_line(page: Page, kept: Scene):
    """And moves with it; from Airflow 3.4 on at the tasks that buy only, here at every one."""
    page.clock.install()
    page.goto(f"/dags/killable/runs/{kept.run.run_id}/tasks/ask")
    page.get_by_role("link", name=TAB_NAME).click()
    shown = page.locator("section.llmb")
    for words in ("Waiting", "gpt-5-mini", "Waves and batches", "at most $"):
        expect(shown).to_contain_text(words)
    assert shown.get_by_role("link", name=kept.job["id"]).get_attribute("href").startswith(kept.emulator.url)
    change_record(kept, counts={"total": 3, "done": 2, "succeeded": 1, "failed": 1}, next_action="Clear the task.")
    page.clock.run_for(POLL)
    expect(shown).to_contain_text("2 of 3 done, 1 failed")
    expect(shown).to_contain_text("What to do next")
    assert page.evaluate("document.querySelector('section.llmb').scrollWidth <= innerWidth")


HOSTILE = (
    '<img src=x onerror="globalThis.hacked=true"><script>globalThis.hacked=true</script> '
    "\u202egnihtyreve\u202c \x1b[31mred\x1b[0m שלום \u0000"
)


def test_hostile_text_is_text(page: Page, kept: Scene):
    """In keys, errors, names of models and addresses: markup, a message of 2 MB, directions and colours."""
    digest = {"reasons": [{"code": HOSTILE, "message": HOSTILE, "count": 2, "sample": [HOSTILE]}]}
    url = "javascript:globalThis.hacked=true"
    batches = [{"batch_id": HOSTILE, "state": HOSTILE, "requests": "<b>", "submitted_at": "soon", "url": url}]
    change_record(
        kept,
        model=HOSTILE,
        message=HOSTILE + "x" * 2_000_000,
        errors=digest,
        batches=batches,
        cost=7,
        wave="<i>",
        rows=[],
    )
    page.goto(f"{PAGE}?dag_id=killable&run_id={kept.run.run_id}&task_id=ask")

    details = page.locator(".llmb-details")
    expect(details).to_contain_text("<img src=x onerror=")
    expect(details).to_contain_text("characters)")
    assert page.locator(".llmb img, .llmb script").count() == 0
    assert page.evaluate("globalThis.hacked") is None
    said = page.locator(".llmb").inner_text()
    assert not set("\x1b\u202e\u202c\u0000") & set(said)
    assert page.locator(".llmb a[href^=javascript]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_who_may_not_see_a_dag_sees_none_of_its_stages(browser: Browser, stack: AirflowStack, scene: Scene):
    """The page knows nothing but what Airflow tells the user."""
    passwords = json.loads((stack.home / "passwords.json").read_text())
    context = logged_in(browser, stack.url, "stranger", passwords["stranger"])
    page = context.new_page()
    page.goto(PAGE)
    expect(page.locator(".llmb")).not_to_contain_text("Asking Airflow")
    expect(page.locator(".llmb")).to_contain_text(re.compile("No batches yet|of 1?[0-9] stages"))
    expect(page.locator(".llmb")).not_to_contain_text("killable")
    page.goto(f"{PAGE}?dag_id=killable&run_id={scene.run.run_id}&task_id=ask")
    expect(page.get_by_role("alert")).to_contain_text("Ask for the right")
    assert page.get_by_text("gpt-5-mini").count() == 0
    context.close()


def test_a_hidden_page_asks_nothing(page: Page, scene: Scene):
    """And asks at once when it is seen again."""
    page.clock.install()
    page.goto(PAGE)
    expect(line(page, scene.run.run_id)).to_be_visible()
    asked: list[str] = []
    page.on("request", lambda request: "xcomEntries" in request.url and asked.append(request.url))
    hide = "state => { Object.defineProperty(document, 'visibilityState', {value: state, configurable: true}); document.dispatchEvent(new Event('visibilitychange')); }"
    page.evaluate(hide, "hidden")
    page.wait_for_timeout(300)
    asked.clear()
    page.clock.run_for(60_000)  # milliseconds of the page's own time
    page.wait_for_timeout(300)
    assert asked == []
    with page.expect_request("**/xcomEntries**", timeout=2000):
        page.evaluate(hide, "visible")


# In the browser's own time, frame by frame: from the click in the navigation until every stage is read and drawn.
STOPWATCH = """() => {
    const of = (selector) => document.querySelector(selector)?.textContent ?? "";
    const isReady = () => globalThis.asked >= 500 && of(".llmb-count") === "500 stages" && of(".llmb-line .llmb-badge") !== "…";
    addEventListener("click", () => { globalThis.clickedAt ??= performance.now(); }, true);
    const look = () => { if (isReady()) globalThis.took = performance.now() - globalThis.clickedAt; else requestAnimationFrame(look); };
    look();
}"""


def test_500_stages_are_there_within_2_seconds(page: Page, stack: AirflowStack):
    """Read, drawn, filtered and sorted; Airflow's answers take 3 ms here, so that the page is measured and not Airflow."""
    page.add_init_script(path=STAGES)
    page.goto("/")
    entry = page.get_by_role("link", name="Batches")
    entry.wait_for()
    page.evaluate(STOPWATCH)
    entry.click()
    page.wait_for_function("globalThis.took !== undefined")
    assert page.evaluate("globalThis.took") < 2000  # milliseconds
    page.get_by_label("State", exact=True).select_option("unresolved")
    expect(page.locator(".llmb-count")).to_have_text("100 stages")
    page.get_by_role("button", name="Cost").click()
    expect(page.locator(".llmb-line").first).to_contain_text("$4.99")


def test_a_cost_that_is_not_known_yet_is_not_taken_for_one_without_a_price(page: Page, kept: Scene):
    """Also of an attempt that has ended before anything landed."""
    change_record(kept, state="unresolved", cost={"usd": None}, landed_batches=0)
    page.goto(f"{PAGE}?dag_id=killable&run_id={kept.run.run_id}&task_id=ask")
    details = page.locator(".llmb-details")
    expect(details).to_contain_text("known once rows have landed")
    change_record(kept, state="unresolved", cost={"usd": None}, landed_batches=1)
    page.reload()
    expect(details).to_contain_text("no known price")


def test_a_page_without_batches_teaches_how_to_make_some(page: Page, stack: AirflowStack):
    """With the lines of a task; there is no line and no error."""
    page.route("**/xcomEntries**", lambda route: route.fulfill(json={"xcom_entries": [], "total_entries": 0}))
    page.route("**/taskInstances?**", lambda route: route.fulfill(json={"task_instances": [], "total_entries": 0}))
    page.goto(PAGE)
    expect(page.get_by_role("heading", name="No batches yet")).to_be_visible()
    expect(page.locator(".llmb-empty")).to_contain_text("BatchGenerateOperator(")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_times_are_those_of_the_zone_that_the_user_chose(page: Page, stack: AirflowStack):
    """In Airflow's own menu; before that those of the browser, which is in Berlin here."""
    page.goto(PAGE)
    moment = "async (zone) => { if (zone) localStorage.setItem('timezone', zone); const { moment } = await import('/llm-batches/text.js'); return moment(Date.UTC(2026, 10, 27, 12)); }"
    assert "1:00" in page.evaluate(moment, None)
    assert "9:00" in page.evaluate(moment, "Asia/Tokyo")
    assert "1:00" in page.evaluate(moment, "Nowhere/At_All")


def test_money_on_the_page_is_written_as_in_the_log(page: Page, scene: Scene):
    """An amount that is not nothing is never shown as nothing; only from a dollar on the page rounds to cents."""
    small = [0, 1e-10, 5.84e-05, 0.00058, 0.0034567, 0.01, 0.12345, 0.5, 3]
    page.goto(PAGE)
    shown = page.evaluate("async (all) => all.map((await import('/llm-batches/text.js')).dollars)", small)
    assert shown == [dollars(usd) for usd in small]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, stack: AirflowStack, kept: Scene, scheme: str):
    """With a line open, in both colours."""
    digest = {"reasons": [{"code": "refused", "message": "no", "count": 2, "sample": ["a"]}]}
    change_record(kept, state="unresolved", errors=digest, next_action="Say which: airflow batches absent tag-1.")
    context = logged_in(browser, stack.url, USERNAME, PASSWORD, scheme)
    page = context.new_page()
    page.goto(f"{PAGE}?dag_id=killable&run_id={kept.run.run_id}&task_id=ask")
    expect(page.locator(".llmb-next code")).to_have_text("airflow batches absent tag-1")
    found = Axe().run(page, context=".llmb", options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]})
    serious = [
        (each["id"], each["help"], [node["html"][:200] for node in each["nodes"]][:3])
        for each in found["violations"]
        if each["impact"] in SERIOUS
    ]
    context.close()
    assert serious == []


def test_a_narrow_screen_and_a_keyboard_are_enough(browser: Browser, stack: AirflowStack, scene: Scene):
    """Lines become cards that fit, and a line opens by Enter."""
    context = logged_in(browser, stack.url, USERNAME, PASSWORD, width=420, height=800)
    page = context.new_page()
    page.goto(f"{PAGE}?dag_id=killable&provider=openai")
    opener = line(page, scene.run.run_id).get_by_role("button", name="ask")
    opener.focus()
    page.keyboard.press("Enter")
    expect(opener).to_have_attribute("aria-expanded", "true")
    assert page.evaluate("document.querySelector('.llmb').scrollWidth <= document.querySelector('.llmb').clientWidth")
    context.close()
