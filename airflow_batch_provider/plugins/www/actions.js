// What a person can do about a task from here. Airflow does it, as the logged-in user, or refuses.

import { h, useState } from "./element.js";
import { ask, instancePath, part, Refused } from "./airflow.js";
import { isInFlight } from "./stages.js";

const CLEAR = {
  label: "Clear the task",
  sure: "Clear this task, and those after it that failed with it? Its good answers are kept; what has none is bought again.",
  forbidden: "You may not clear tasks of this DAG.",
  failed: "Airflow did not clear it.",
  async act(stage) {
    const body = {
      dry_run: false,
      dag_run_id: stage.run,
      task_ids: [stage.mapIndex < 0 ? stage.task : [stage.task, stage.mapIndex]],
      only_failed: true,
      include_downstream: true,
      reset_dag_runs: true,
    };
    const { task_instances: cleared } = await ask(`dags/${part(stage.dag)}/clearTaskInstances`, { body });
    return cleared.length ? "Cleared: its next attempt begins." : "Nothing was cleared: Airflow has no failed task here.";
  },
};

// The trigger of a task that was marked cancels its batches.
const CANCEL = {
  label: "Cancel its batches",
  sure: "Mark this task failed, and cancel its batches? What they have finished is paid, and a clear of the task keeps it.",
  forbidden: "You may not mark tasks of this DAG.",
  failed: "Airflow did not mark it.",
  async act(stage) {
    const place = { dag_id: stage.dag, run_id: stage.run, task_id: stage.task, map_index: stage.mapIndex };
    await ask(instancePath(place), { method: "PATCH", body: { new_state: "failed" } });
    return "Marked failed: its batches are cancelled.";
  },
};

function Action({ stage, action }) {
  const [said, setSaid] = useState("");
  const onClick = async () => {
    if (!globalThis.confirm(action.sure)) return;
    try {
      setSaid(await action.act(stage));
    } catch (error) {
      setSaid(error instanceof Refused && error.status === 403 ? action.forbidden : action.failed);
    }
  };
  return h("span", null, h("button", { type: "button", className: "llmb-plain", onClick }, action.label), " ", h("span", { role: "status" }, said));
}

export const ClearTask = ({ stage }) => h(Action, { stage, action: CLEAR });
export const CancelBatches = ({ stage }) => h(Action, { stage, action: CANCEL });
