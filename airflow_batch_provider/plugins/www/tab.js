// The tab of a task instance: the same as its open line on the page.

import { h, useEffect, useState } from "./element.js";
import { readRecord, readState } from "./airflow.js";
import { Details } from "./details.js";
import { Badge, Said } from "./parts.js";
import { isInFlight, parseRecord, stageOf, withTask } from "./stages.js";
import { addStyle } from "./style.js";

const BUSY = 5000; // milliseconds between two polls while something is in flight
const QUIET = 15000;

async function poll(place, signal) {
  const value = await readRecord(place, signal);
  if (value === undefined) return null;
  return withTask(stageOf(place, parseRecord(value)), await readState(place, signal));
}

// The stage as it is now, while the tab is seen: null where there is no record, undefined before the first answer.
function useStage(place) {
  const [seen, setSeen] = useState({});
  const wanted = JSON.stringify(place);
  useEffect(() => {
    const abort = new AbortController();
    let timer;
    let pause = QUIET;
    const refresh = async () => {
      clearTimeout(timer);
      if (document.visibilityState === "hidden") return;
      try {
        const stage = await poll(JSON.parse(wanted), abort.signal);
        pause = stage && isInFlight(stage) ? BUSY : QUIET;
        if (!abort.signal.aborted) setSeen({ stage });
      } catch (error) {
        if (!abort.signal.aborted) setSeen((former) => ({ ...former, error }));
      }
      if (!abort.signal.aborted) timer = setTimeout(refresh, pause);
    };
    document.addEventListener("visibilitychange", refresh);
    refresh();
    return () => {
      document.removeEventListener("visibilitychange", refresh);
      clearTimeout(timer);
      abort.abort();
    };
  }, [wanted]);
  return seen;
}

const saidOf = (error) => (error.status === 403 ? "You may not see the XComs of this DAG." : "Airflow does not answer. Trying again.");

export function Tab({ dagId, runId, taskId, mapIndex }) {
  addStyle();
  const { stage, error } = useStage({ dag_id: dagId, run_id: runId, task_id: taskId, map_index: Number(mapIndex ?? -1) });
  return h(
    "section",
    { className: "llmb", "aria-label": "The batches of this task" },
    error && h("p", { role: "alert", className: "llmb-muted" }, saidOf(error)),
    stage === undefined && !error && h("p", { className: "llmb-muted llmb-wait" }, "Asking Airflow …"),
    stage === null && h("p", { className: "llmb-muted llmb-wait" }, "This task has no batches yet."),
    stage && h("p", null, h(Badge, { state: stage.state }), " ", h(Said, { longest: 80 }, stage.model ?? "")),
    stage && h(Details, { stage }),
  );
}

globalThis["LLM batch"] = Tab;
globalThis.AirflowPlugin = Tab;
