// Which stages are shown, in which order, and what they come to; filters and order travel in the address.

import { isInFlight, STATES } from "./stages.js";

export const needsPerson = (stage) => stage.nextAction !== null;

export function deadlineShare(stage, now) {
  if (stage.startedAt === null || stage.deadline === null || stage.deadline <= stage.startedAt) return null;
  return Math.min(Math.max((now - stage.startedAt) / (stage.deadline - stage.startedAt), 0), 1);
}

export const tokens = (stage) => {
  const of = Object.fromEntries(stage.usage);
  return (of.input_tokens ?? 0) + (of.output_tokens ?? 0);
};

export const share = (stage) =>
  stage.counts.total ? stage.counts.done / stage.counts.total : stage.percent / 100;

export const FILTERS = ["dag_id", "state", "provider", "model"];
const FILTERED = {
  dag_id: (stage, wanted) => stage.dag === wanted,
  provider: (stage, wanted) => stage.provider === wanted,
  model: (stage, wanted) => stage.model === wanted,
  state: (stage, wanted) =>
    wanted === "in-flight" ? isInFlight(stage) : wanted === "needs-you" ? needsPerson(stage) : stage.state === wanted,
};

export function filtered(stages, wanted) {
  const chosen = FILTERS.filter((name) => wanted[name]);
  return stages.filter((stage) => chosen.every((name) => FILTERED[name](stage, wanted[name])));
}

const byText = (of) => (one, other) => String(of(one)).localeCompare(String(of(other)));
const byNumber = (of) => (one, other) => of(other) - of(one);
const newest = byNumber((stage) => stage.seenAt ?? stage.changedAt);

// Numbers start with the largest, names with the first of the alphabet.
const ORDERS = {
  task: byText((stage) => `${stage.dag}/${stage.task}`),
  state: byText((stage) => STATES[stage.state].label),
  model: byText((stage) => `${stage.provider}/${stage.model}`),
  rows: byNumber(share),
  age: byNumber((stage) => (stage.oldestAt === null ? -Infinity : -stage.oldestAt)),
  deadline: byNumber((stage) => (isInFlight(stage) ? (deadlineShare(stage, Date.now()) ?? -1) : -2)),
  tokens: byNumber(tokens),
  cost: byNumber((stage) => stage.cost.usd ?? -1),
};
export const SORTS = Object.keys(ORDERS);

export function sorted(stages, order) {
  const descending = order?.startsWith("-") ?? false;
  const compare = ORDERS[descending ? order.slice(1) : order];
  if (!compare) return [...stages].sort((one, other) => isInFlight(other) - isInFlight(one) || newest(one, other));
  return [...stages].sort((one, other) => (descending ? -compare(one, other) : compare(one, other)) || newest(one, other));
}

export function choices(stages) {
  const distinct = (of) => [...new Set(stages.map(of).filter(Boolean))].sort();
  return {
    dag_id: distinct((stage) => stage.dag),
    provider: distinct((stage) => stage.provider),
    model: distinct((stage) => stage.model),
    state: Object.keys(STATES).filter((state) => state !== "unknown" && stages.some((stage) => stage.state === state)),
  };
}

export function sums(stages) {
  const adds = (of) => stages.reduce((sum, stage) => sum + of(stage), 0);
  return {
    inFlight: stages.filter(isInFlight).length,
    needYou: stages.filter(needsPerson).length,
    rows: adds((stage) => stage.counts.total),
    done: adds((stage) => stage.counts.done),
    cost: adds((stage) => stage.cost.usd ?? 0),
    saved: adds((stage) => stage.cost.saved ?? 0),
  };
}
