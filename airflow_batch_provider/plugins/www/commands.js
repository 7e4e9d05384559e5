// What else a person may do about a stage: cancel its batches, and commands that are ready for a shell.

import { CancelBatches } from "./actions.js";
import { Section } from "./details.js";
import { h } from "./element.js";
import { Copyable } from "./parts.js";
import { isInFlight } from "./stages.js";
import { plain } from "./text.js";

const PRICED = ["batch-generate", "batch-embed"]; // stages whose requests can be made before a run

// Ids of DAGs, runs and tasks are somebody else's text: quoted, so that a shell takes each as one word and runs none of it.
function quoted(id) {
  const text = plain(id);
  return /^[\w.:+@%][\w.:+@%-]*$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function cancel(stage) {
  const place = [stage.dag, stage.run, stage.task].map(quoted).join(" ");
  return `airflow batches cancel ${stage.mapIndex < 0 ? place : `${place} --map-index ${stage.mapIndex}`}`;
}

// Pairs of what a command does and its text.
export function commandsOf(stage) {
  const isLeft = stage.openBatches > 0 && !isInFlight(stage);
  return [
    isLeft && ["cancels the batches that are still open", cancel(stage)],
    ["what the batches of each task have cost", "airflow batches cost --by task"],
    PRICED.includes(stage.kind) && ["what a run of this task would ask and cost; nothing is bought", `airflow batches estimate ${quoted(stage.dag)} ${quoted(stage.task)}`],
  ].filter(Boolean);
}

export function Commands({ stage }) {
  const command = ([says, text]) => h("li", { key: text }, h(Copyable, { text }), h("span", { className: "llmb-muted" }, says));
  return h(
    Section,
    { title: "Cancel, cost, estimate", className: "wide llmb-commands" },
    h("ul", null, isInFlight(stage) && h("li", null, h(CancelBatches, { stage })), commandsOf(stage).map(command)),
  );
}
