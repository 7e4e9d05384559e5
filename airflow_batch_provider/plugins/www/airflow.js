// Airflow's public REST API, asked as the logged-in user: what a person may not see does not arrive here.

export const RECORD = "batch_progress";

export class Refused extends Error {
  constructor(status) {
    super(`Airflow answered ${status}.`);
    this.status = status;
  }
}

const base = () => new URL("api/v2/", document.baseURI);

export async function ask(path, { query = {}, body, method = "POST", signal }) {
  const url = new URL(path, base());
  for (const [name, value] of Object.entries(query)) for (const one of [value].flat()) url.searchParams.append(name, one);
  const options = body
    ? { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" } }
    : {};
  const reply = await fetch(url, { credentials: "same-origin", signal, ...options });
  if (!reply.ok) throw new Refused(reply.status);
  return reply.json();
}

export const part = (id) => encodeURIComponent(id);
export const taskPath = (place) =>
  `dags/${part(place.dag_id ?? "~")}/dagRuns/${part(place.run_id ?? "~")}/taskInstances/${part(place.task_id ?? "~")}`;
export const instancePath = (place) => (place.map_index < 0 ? taskPath(place) : `${taskPath(place)}/${place.map_index}`);

export async function readRecord(place, signal) {
  try {
    const query = { map_index: place.map_index };
    return (await ask(`${taskPath(place)}/xcomEntries/${RECORD}`, { query, signal })).value;
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return undefined; // a new try has begun meanwhile
    throw error;
  }
}

// Airflow's state of a task instance, null when it has none; undefined when the task is gone.
export async function readState(place, signal) {
  try {
    return (await ask(instancePath(place), { signal })).state;
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return undefined;
    throw error;
  }
}
