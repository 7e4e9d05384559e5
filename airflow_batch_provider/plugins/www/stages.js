// The pure part: Airflow's XComs and task instances → the stages that the page shows, which of them, in which order.
// A record may come from any version and from stages of anybody's, so every field is checked before it is used.

const GOING_ON = new Set(["submitting", "waiting", "working"]);

export const STATES = {
  submitting: { label: "Submitting", tone: "busy", says: "A worker plans, checks and submits." },
  waiting: { label: "Waiting", tone: "busy", says: "The provider works; no worker is held." },
  working: { label: "At work", tone: "busy", says: "A stage of your own." },
  succeeded: { label: "Done", tone: "good", says: "Every row has its answer, or enough of them as the task asks for." },
  unmet: { label: "Too few answers", tone: "bad", says: "Fewer good answers than the task asks for." },
  overdue: { label: "Overdue", tone: "bad", says: "The deadline passed." },
  paused: { label: "Paused", tone: "warn", says: "Money or quota is missing." },
  unresolved: { label: "Unresolved", tone: "bad", says: "A batch may or may not have been bought: a person must look." },
  denied: { label: "Key refused", tone: "bad", says: "The provider refuses the key." },
  failed: { label: "Failed", tone: "bad", says: "The attempt ended with an error." },
  stopped: { label: "Stopped", tone: "idle", says: "Airflow ended the task while its batches were out." },
  unknown: { label: "…", tone: "idle", says: "Its record is being read." },
};

export const keyOf = (place) => JSON.stringify([place.dag_id, place.run_id, place.task_id, place.map_index]);

const number = (value, otherwise = 0) => (Number.isFinite(value) && value >= 0 ? value : otherwise);
const some = (value) => (typeof value === "string" && value !== "" ? value : null);
const list = (value) => (Array.isArray(value) ? value.filter((one) => one !== null && typeof one === "object") : []);
const object = (value) => (value !== null && typeof value === "object" && !Array.isArray(value) ? value : {});

function time(value) {
  const date = typeof value === "string" ? Date.parse(value) : NaN;
  return Number.isNaN(date) ? null : date;
}

function batch(told) {
  return {
    id: some(told.batch_id) ?? "?",
    wave: number(told.wave),
    state: some(told.state),
    requests: number(told.requests, null),
    succeeded: number(told.succeeded, null),
    failed: number(told.failed, null),
    submittedAt: time(told.submitted_at),
    url: told.url,
  };
}

function reasons(digest) {
  return list(object(digest).reasons).map((told) => ({
    code: told.code,
    message: told.message,
    count: number(told.count),
    sample: (Array.isArray(told.sample) ? told.sample : []).slice(0, 3),
  }));
}

function counts(record) {
  const told = object(record.counts);
  const total = number(told.total ?? told.requests);
  const failed = Math.min(number(told.failed), total);
  const succeeded = Math.min(number(told.succeeded), total - failed);
  return { total, succeeded, failed, done: succeeded + failed };
}

function money(told) {
  const cost = object(told);
  return {
    usd: number(cost.usd, null),
    saved: number(cost.saved_usd, null),
    estimated: cost.estimated === true,
    source: some(cost.source),
    unpriced: Array.isArray(cost.unpriced) ? cost.unpriced : [],
  };
}

function budget(told) {
  return { name: told.name, limit: number(told.limit_usd), spent: number(told.spent_usd), reserved: number(told.reserved_usd) };
}

// A record may be JSON text, and a custom XCom backend may keep a reference where the record should be.
export function parseRecord(value) {
  if (typeof value !== "string") return object(value);
  try {
    return object(JSON.parse(value));
  } catch {
    return { message: "An XCom backend keeps this record elsewhere, so that this page cannot read it." };
  }
}

// The first wave with all that a later one has asked again; batches of one wave stand together.
function waves(open, landed) {
  const byWave = new Map();
  for (const one of [...landed.map((each) => ({ ...each, state: "landed" })), ...open]) {
    if (!byWave.has(one.wave)) byWave.set(one.wave, []);
    byWave.get(one.wave).push(one);
  }
  return [...byWave].sort(([one], [other]) => one - other);
}

// entry: one item of a list of XComs or task instances; record: what `parseRecord` gave, null while it is not read.
export function stageOf(entry, record) {
  const known = record ?? {};
  const open = list(known.batches).map(batch);
  const landed = list(known.landed).map(batch);
  const state = record === null ? "unknown" : (some(known.state) ?? "working");
  return {
    key: keyOf(entry),
    dag: entry.dag_id,
    run: entry.run_id,
    task: entry.task_id,
    mapIndex: number(entry.map_index, -1),
    changedAt: time(entry.timestamp) ?? 0,
    state: Object.hasOwn(STATES, state) ? state : "working",
    kind: some(known.stage),
    provider: some(known.provider),
    model: some(known.model),
    message: known.message,
    percent: Math.min(number(known.progress), 100),
    wave: number(known.wave),
    counts: counts(known),
    rows: Object.entries(object(known.rows)).filter(([, rows]) => number(rows) > 0),
    waves: waves(open, landed),
    open,
    landed,
    openBatches: number(known.open_batches, open.length),
    queuedBatches: number(known.queued_batches),
    landedBatches: number(known.landed_batches, landed.length),
    oldestAt: open.reduce((oldest, one) => Math.min(oldest ?? Infinity, one.submittedAt ?? Infinity), null),
    startedAt: time(known.started_at),
    deadline: time(known.deadline),
    seenAt: time(known.seen_at),
    pace: known.pace,
    usage: Object.entries(object(known.usage)).filter(([, tokens]) => number(tokens) > 0),
    cost: money(known.cost),
    estimate: money(known.estimate),
    budgets: list(known.budgets).slice(0, 9).map(budget),
    errors: reasons(known.errors),
    askedAgain: reasons(known.asked_again),
    results: some(known.results),
    nextAction: some(known.next_action),
    batchId: some(known.batch_id),
  };
}

// task: Airflow's state of the task instance, null when it is in none that counts, undefined when nobody knows.
export function withTask(stage, task) {
  if (stage.state === "unknown" || task === undefined) return stage;
  const goesOn = task !== null && task !== "success" && task !== "failed";
  if (GOING_ON.has(stage.state)) {
    if (goesOn) return stage;
    const ended = { success: "succeeded", failed: "failed" }[task] ?? "stopped";
    return { ...stage, state: stage.state === "working" ? ended : task === "success" ? "succeeded" : "stopped" };
  }
  if (stage.state !== "succeeded" && task === "success") return { ...stage, nextAction: null };
  return stage;
}

export const isInFlight = (stage) => GOING_ON.has(stage.state);
