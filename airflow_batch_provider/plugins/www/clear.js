// What a person does once the cause is fixed: clear the task. Airflow does it, as the logged-in user, or refuses.

import { h, useState } from "./element.js";
import { ask, part, Refused } from "./airflow.js";

const SURE = "Clear this task, and those after it that failed with it? Its good answers are kept; what has none is bought again.";

function clear(stage) {
  const body = {
    dry_run: false,
    dag_run_id: stage.run,
    task_ids: [stage.mapIndex < 0 ? stage.task : [stage.task, stage.mapIndex]],
    only_failed: true,
    include_downstream: true,
    reset_dag_runs: true,
  };
  return ask(`dags/${part(stage.dag)}/clearTaskInstances`, { body });
}

export function ClearTask({ stage }) {
  const [said, setSaid] = useState("");
  const onClick = async () => {
    if (!globalThis.confirm(SURE)) return;
    try {
      const { task_instances: cleared } = await clear(stage);
      setSaid(cleared.length ? "Cleared: its next attempt begins." : "Nothing was cleared: Airflow has no failed task here.");
    } catch (error) {
      setSaid(error instanceof Refused && error.status === 403 ? "You may not clear tasks of this DAG." : "Airflow did not clear it.");
    }
  };
  return h("span", null, h("button", { type: "button", className: "llmb-plain", onClick }, "Clear the task"), " ", h("span", { role: "status" }, said));
}
