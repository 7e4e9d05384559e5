// The page: what is out and what it came to, over all DAGs that the user may see.

import { h, useCallback, useEffect, useId, useMemo, useRef, useSearchParams, useState } from "./element.js";
import { Refused } from "./airflow.js";
import { Watch } from "./live.js";
import { choices, FILTERS, filtered, sorted, sums } from "./order.js";
import { PAGE_CSS } from "./page_style.js";
import { keyOf, STATES } from "./stages.js";
import { addStyle } from "./style.js";
import { Table } from "./table.js";
import { count, dollars, moment, numbered, plain } from "./text.js";

const SCOPE = ["dag_id", "run_id", "task_id", "map_index"];
const FEW = 100; // lines that are drawn at first

// A link from a task instance narrows what is asked for; a DAG alone is one of the filters.
function scopeOf(query) {
  if (!query.run_id) return {};
  return Object.fromEntries(SCOPE.filter((name) => query[name]).map((name) => [name, query[name]]));
}

function useQuery() {
  const [parameters, setParameters] = useSearchParams();
  const query = useMemo(() => Object.fromEntries(parameters), [parameters]);
  const change = useCallback(
    (changes) =>
      setParameters(
        (former) => {
          const kept = Object.entries({ ...Object.fromEntries(former), ...changes });
          return Object.fromEntries(kept.filter(([, value]) => value));
        },
        { replace: true },
      ),
    [setParameters],
  );
  return [query, change];
}

function useStages(scope) {
  const [seen, setSeen] = useState({ stages: [], error: null, seenAt: null });
  const watch = useRef(null);
  const wanted = JSON.stringify(scope);
  useEffect(() => {
    setSeen({ stages: [], error: null, seenAt: null });
    const started = new Watch(JSON.parse(wanted), (news) => setSeen((former) => ({ ...former, ...news })));
    watch.current = started;
    started.start();
    return () => started.stop();
  }, [wanted]);
  return [seen, () => watch.current?.lookNow()];
}

// Lines open by a click, and the one that the address names; which of them are open outlives every refresh.
function useOpen(query) {
  const { dag_id, run_id, task_id, map_index } = query;
  const named = run_id && task_id ? keyOf({ dag_id, run_id, task_id, map_index: Number(map_index ?? -1) }) : null;
  const [openKeys, setOpenKeys] = useState(new Set());
  useEffect(() => setOpenKeys(new Set(named ? [named] : [])), [named]);
  const toggle = useCallback((key) => {
    setOpenKeys((former) => {
      const next = new Set(former);
      if (!next.delete(key)) next.add(key);
      return next;
    });
  }, []);
  return [openKeys, toggle];
}

function Tile({ label, value, note, tone = "", onClick, isPressed }) {
  const inside = [h("span", { key: 0, className: "label" }, label), h("strong", { key: 1 }, value), h("span", { key: 2, className: "note" }, note)];
  if (!onClick) return h("div", { className: `llmb-tile ${tone}` }, inside);
  return h("button", { type: "button", className: `llmb-tile ${tone}`, onClick, "aria-pressed": isPressed }, inside);
}

function Summary({ stages, query, change }) {
  const { inFlight, needYou, rows, done, cost, saved } = useMemo(() => sums(stages), [stages]);
  const flips = (state) => ({
    onClick: () => change({ state: query.state === state ? null : state }),
    isPressed: query.state === state,
  });
  return h(
    "div",
    { className: "llmb-tiles" },
    h(Tile, { label: "In flight", value: count(inFlight), note: `of ${numbered(stages.length, "stage", "stages")}`, tone: inFlight ? "busy" : "", ...flips("in-flight") }),
    h(Tile, { label: "Needs you", value: count(needYou), note: needYou ? "open a line to see what to do" : "nothing to decide", tone: needYou ? "bad" : "", ...flips("needs-you") }),
    h(Tile, { label: "Rows done", value: count(done), note: `of ${count(rows)} asked` }),
    h(Tile, { label: "Cost so far", value: dollars(cost), note: saved > 0 ? `saved ${dollars(saved)} against single calls` : "each row at its own price", tone: "money" }),
  );
}

const NAMES = { dag_id: "DAG", state: "State", provider: "Provider", model: "Model" };
const GROUPS = { "in-flight": "In flight", "needs-you": "Needs you" };
const stateName = (state) => GROUPS[state] ?? STATES[state]?.label ?? plain(state, 40);

function Filter({ name, options, chosen, onChange }) {
  const id = useId();
  const shown = chosen && !options.includes(chosen) ? [chosen, ...options] : options;
  return h(
    "div",
    { className: "llmb-filter" },
    h("label", { htmlFor: id }, NAMES[name]),
    h(
      "select",
      { id, value: chosen ?? "", onChange: (event) => onChange(event.target.value) },
      h("option", { value: "" }, "All"),
      shown.map((value) => h("option", { key: value, value }, name === "state" ? stateName(value) : plain(value, 80))),
    ),
  );
}

function Filters({ stages, query, change, shown, isNarrow }) {
  const options = useMemo(() => choices(stages), [stages]);
  const isFiltered = FILTERS.some((name) => query[name]);
  const states = [...Object.keys(GROUPS), ...options.state];
  return h(
    "div",
    { className: "llmb-filters", role: "search", "aria-label": "Which stages are shown" },
    FILTERS.filter((name) => !(isNarrow && name === "dag_id")).map((name) =>
      h(Filter, {
        key: name,
        name,
        options: name === "state" ? states : options[name],
        chosen: query[name],
        onChange: (value) => change({ [name]: value }),
      }),
    ),
    isNarrow &&
      h("p", { className: "llmb-chip" }, "Only ", h("bdi", null, plain(query.task_id ?? query.run_id, 80)),
        h("button", { type: "button", onClick: () => change(Object.fromEntries(SCOPE.map((name) => [name, null]))) }, "Show all")),
    isFiltered && !isNarrow &&
      h("button", { type: "button", className: "llmb-plain", onClick: () => change(Object.fromEntries(FILTERS.map((name) => [name, null]))) }, "Clear filters"),
    h("p", { className: "llmb-count", role: "status" }, numbered(shown, "stage", "stages")),
  );
}

const EXAMPLE = `BatchGenerateOperator(
    task_id="classify",
    model="claude-haiku-4-5",
    source="s3://lake/reviews.parquet",
    prompt="Classify: {text}",
)`;

function Empty({ isNarrow }) {
  if (isNarrow) {
    return h("div", { className: "llmb-empty" }, h("h2", null, "This task has no batches"),
      h("p", null, "It has not begun, was cleared, or its record was deleted with its run."));
  }
  return h(
    "div",
    { className: "llmb-empty" },
    h("h2", null, "No batches yet"),
    h("p", null, "A task like this one asks a language model in batch, at half price. While the provider works, no worker is held, and you see it here:"),
    h("pre", null, h("code", null, EXAMPLE)),
    h("p", null, "Run a DAG that has one, and its line appears within seconds."),
  );
}

function Trouble({ error, seenAt, onRetry }) {
  const status = error instanceof Refused ? error.status : null;
  const words = {
    401: "Your login has ended. Reload the page to log in again.",
    403: "You may not see the XComs of any DAG here. Ask for the right to read them.",
  };
  const since = seenAt ? `What you see was true at ${moment(seenAt)}.` : "";
  const said = words[status] ?? `Airflow does not answer${status ? ` (${status})` : ""}. ${since} Trying again.`;
  return h("div", { className: "llmb-trouble", role: "alert" }, h("span", null, said),
    h("button", { type: "button", onClick: onRetry }, "Try now"));
}

export function Page() {
  addStyle();
  addStyle("llmb-page-style", PAGE_CSS);
  const [query, change] = useQuery();
  const scope = scopeOf(query);
  const isNarrow = Object.keys(scope).length > 0;
  const [{ stages, error, seenAt }, lookNow] = useStages(scope);
  const [openKeys, toggle] = useOpen(query);
  const [isWhole, setWhole] = useState(false);
  const shown = useMemo(() => sorted(filtered(stages, query), query.sort), [stages, query]);
  const drawn = isWhole ? shown : shown.slice(0, FEW);
  const isRefused = error instanceof Refused && error.status === 403;
  return h(
    "main",
    { className: "llmb" },
    h(
      "header",
      null,
      h("h1", null, "LLM batches"),
      h("p", { className: "llmb-muted" }, "Every stage that asks a language model in batches: how far it is, what it costs, and what it waits for."),
    ),
    error && h(Trouble, { error, seenAt, onRetry: lookNow }),
    !isRefused && h(Summary, { stages, query, change }),
    !isRefused && h(Filters, { stages, query, change, shown: shown.length, isNarrow }),
    !error && seenAt === null && !stages.length && h("p", { className: "llmb-muted llmb-wait" }, "Asking Airflow …"),
    seenAt !== null && !stages.length && h(Empty, { isNarrow }),
    stages.length > 0 && !shown.length && h("div", { className: "llmb-empty" }, h("h2", null, "No stage is like that"), h("p", null, "Choose other filters.")),
    drawn.length > 0 && h(Table, { stages: drawn, now: Date.now(), order: query.sort, onSort: (sort) => change({ sort }), openKeys, onToggle: toggle }),
    drawn.length < shown.length && h("button", { type: "button", className: "llmb-more", onClick: () => setWhole(true) }, `Show ${count(shown.length - drawn.length)} more`),
  );
}
