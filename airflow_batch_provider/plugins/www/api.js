// What the page asks Airflow for: lists over many tasks, in few requests.

import { ask, part, RECORD, taskPath } from "./airflow.js";

const TRIGGER = "airflow_batch_provider.triggers.stage.AsyncBatchTrigger";
const PAGE = 100; // Airflow's own limit of a page
const MOST_PAGES = 5; // the newest 500 stages, and as many that wait
const AT_ONCE = 6;
const UNFINISHED = ["deferred", "running", "queued", "scheduled", "up_for_retry", "up_for_reschedule", "restarting"];
const CHECKED = [...UNFINISHED, "success", "failed"];

// scope: of dag_id, run_id, task_id and map_index those that narrow the page.
// isKnown: whether an entry has been read as it is; the list is by time, so that all behind it have been as well.
export async function listRecords(scope, isKnown, signal) {
  const found = [];
  for (let page = 0; page < MOST_PAGES; page += 1) {
    const query = { xcom_key: RECORD, order_by: "-timestamp", limit: PAGE, offset: page * PAGE };
    if (scope.map_index !== undefined) query.map_index = scope.map_index;
    const { xcom_entries: entries } = await ask(`${taskPath(scope)}/xcomEntries`, { query, signal });
    found.push(...entries);
    if (entries.length < PAGE || isKnown(entries.at(-1))) break;
  }
  return found;
}

const placeOf = (task) => ({
  dag_id: task.dag_id,
  run_id: task.dag_run_id,
  task_id: task.task_id,
  map_index: task.map_index,
});

// Deferred task instances that wait for batches, whoever's operator it is.
export async function listWaiting(scope, signal) {
  const found = [];
  const path = `dags/${part(scope.dag_id ?? "~")}/dagRuns/${part(scope.run_id ?? "~")}/taskInstances`;
  for (let page = 0; page < MOST_PAGES; page += 1) {
    const query = { state: "deferred", limit: PAGE, offset: page * PAGE, order_by: "-start_date" };
    const { task_instances: tasks } = await ask(path, { query, signal });
    found.push(...tasks.filter((task) => task.trigger?.classpath === TRIGGER).map(placeOf));
    if (tasks.length < PAGE) break;
  }
  return found.filter((place) => isWithin(place, scope));
}

const isWithin = (place, scope) =>
  (scope.task_id === undefined || place.task_id === scope.task_id) &&
  (scope.map_index === undefined || place.map_index === Number(scope.map_index));

// Airflow's states of these task instances, in few requests: pairs of place and state, and whether these are all.
export async function listStates(places, signal) {
  const states = [];
  const ids = (name) => [...new Set(places.map((place) => place[name]))];
  if (!places.length) return { states, areAll: true };
  for (let page = 0; page < MOST_PAGES; page += 1) {
    const body = {
      dag_ids: ids("dag_id"),
      dag_run_ids: ids("run_id"),
      task_ids: ids("task_id"),
      state: CHECKED,
      page_limit: PAGE,
      page_offset: page * PAGE,
    };
    const { task_instances: tasks } = await ask("dags/~/dagRuns/~/taskInstances/list", { body, signal });
    states.push(...tasks.map((task) => [placeOf(task), task.state]));
    if (tasks.length < PAGE) return { states, areAll: true };
  }
  return { states, areAll: false };
}

// Does the work for each item, a few at a time, in order.
export async function forEachOf(items, work) {
  const left = [...items];
  const worker = async () => {
    while (left.length) await work(left.shift());
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}
