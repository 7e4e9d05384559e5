// What an open line tells: what to do next, every batch, why rows have no answer, the receipt, where the results are.

import { Fragment, h, Link } from "./element.js";
import { BatchLink, Copyable, RowsBar, Said } from "./parts.js";
import { isInFlight } from "./stages.js";
import { count, dollars, duration, moment, numbered, plain } from "./text.js";

// A tag may have dots in it; the one at its end ends the sentence.
const COMMANDS =
  /airflow batches (?:adopt [\w-]+(?:\.[\w-]+)* [\w-]+|(?:absent|show|check) [\w-]+(?:\.[\w-]+)*|list|reconcile(?: --apply)?)/g;
const BATCH_STATES = {
  pending: "waits at the provider",
  processing: "is worked on",
  completed: "has ended, lands soon",
  failed: "failed",
  expired: "expired",
  cancelled: "cancelled",
  landed: "landed",
};
const TOKENS = {
  input_tokens: "in",
  cached_tokens: "read from a cache",
  cache_write_tokens: "written to a cache",
  output_tokens: "out",
  reasoning_tokens: "reasoning",
};

export const taskPath = (stage) =>
  `/dags/${encodeURIComponent(stage.dag)}/runs/${encodeURIComponent(stage.run)}/tasks/${encodeURIComponent(stage.task)}` +
  (stage.mapIndex < 0 ? "" : `/mapped/${stage.mapIndex}`);

export function Section({ title, className = "", children }) {
  return h("section", { className }, h("h3", null, title), children);
}

function Facts({ facts }) {
  const told = facts.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  return h("dl", null, told.map(([name, value]) => h(Fragment, { key: name }, h("dt", null, name), h("dd", null, value))));
}

function NextAction({ stage, action }) {
  const commands = [...new Set(plain(stage.nextAction).match(COMMANDS) ?? [])];
  return h(
    "section",
    { className: "llmb-next", "aria-label": "What to do next" },
    h("h3", null, "What to do next"),
    h("p", null, h(Said, null, stage.nextAction)),
    commands.length > 0 && h("ul", null, commands.map((text) => h("li", { key: text }, h(Copyable, { text })))),
    h("p", null, action ? [action, " "] : null, h(Link, { to: taskPath(stage) }, "Open the task"), action || commands.length ? null : " to clear it once that is done."),
  );
}

function BatchRow({ batch }) {
  const total = batch.requests ?? 0;
  const succeeded = batch.succeeded ?? 0;
  const failed = batch.failed ?? 0;
  return h(
    "tr",
    null,
    h("td", null, h(BatchLink, { batch, longest: 40 })),
    h("td", null, BATCH_STATES[batch.state] ?? "submitted"),
    h("td", null, total ? h(RowsBar, { succeeded, failed, total }) : null),
    h("td", { className: "n" }, total ? `${count(succeeded + failed)} of ${count(total)}` : "–"),
    h("td", null, batch.submittedAt ? `submitted ${moment(batch.submittedAt)}` : "–"),
  );
}

function Wave({ number, batches }) {
  const what = number === 0 ? "asks every row" : "asks the rows without a good answer";
  return h(
    Fragment,
    null,
    h("tr", { className: "llmb-wave" }, h("th", { scope: "rowgroup", colSpan: 5 }, `Wave ${number}`, h("span", null, ` ${what}`))),
    batches.map((batch) => h(BatchRow, { key: batch.id, batch })),
  );
}

function Batches({ stage }) {
  if (!stage.waves.length) return null;
  const unshown = stage.openBatches + stage.landedBatches - stage.open.length - stage.landed.length;
  const rest = [
    unshown > 0 && `${numbered(unshown, "batch", "batches")} more`,
    stage.queuedBatches > 0 && `${numbered(stage.queuedBatches, "batch waits", "batches wait")} for a place at the provider`,
  ].filter(Boolean);
  return h(
    Section,
    { title: "Waves and batches", className: "wide" },
    h(
      "div",
      { className: "llmb-scroll", tabIndex: 0, role: "region", "aria-label": "Waves and batches" },
      h(
        "table",
        { className: "llmb-inner" },
        stage.waves.map(([number, batches]) => h("tbody", { key: number }, h(Wave, { number, batches }))),
      ),
    ),
    rest.length > 0 && h("p", { className: "llmb-muted" }, `${rest.join("; ")}.`),
  );
}

function Reasons({ title, reasons }) {
  if (!reasons.length) return null;
  return h(
    Section,
    { title, className: "wide" },
    h(
      "ul",
      { className: "llmb-reasons" },
      reasons.map((reason, place) =>
        h(
          "li",
          { key: place },
          h("strong", null, `${count(reason.count)} × `, h(Said, { longest: 80 }, reason.code)),
          h(Said, { className: "llmb-message", longest: 300 }, reason.message),
          reason.sample.length > 0 &&
            h("span", { className: "llmb-muted" }, "e.g. ", reason.sample.map((key, at) => h("code", { key: at }, h(Said, { longest: 80 }, key)))),
        ),
      ),
    ),
  );
}

function usage(stage) {
  return stage.usage.map(([name, tokens]) => `${count(tokens)} ${TOKENS[name] ?? plain(name, 40).replaceAll("_", " ")}`).join(", ");
}

function cost(stage) {
  const { usd, saved, estimated, source, unpriced } = stage.cost;
  if (usd === null) return stage.landedBatches ? "no known price" : "known once rows have landed";
  const parts = [
    `${estimated ? "about " : ""}${dollars(usd)}`,
    saved > 0 && `saved ${dollars(saved)} against single calls`,
    unpriced.length > 0 && `without the price of ${plain(unpriced.join(", "), 200)}`,
  ];
  return h(Fragment, null, parts.filter(Boolean).join("; "), source && h("span", { className: "llmb-muted" }, ` (${plain(source, 80)})`));
}

const budgetUse = ({ limit, spent, reserved }) =>
  `${dollars(spent)} spent${reserved > 0 ? `, up to ${dollars(reserved)} open` : ""}, of ${dollars(limit)}`;

function Receipt({ stage }) {
  const rows = stage.rows.map(([word, rows_]) => `${count(rows_)} ${plain(word, 40)}`).join(", ");
  return h(
    Section,
    { title: isInFlight(stage) ? "So far" : "Receipt" },
    h(Facts, {
      facts: [
        ["Rows", rows ? `${count(stage.counts.total)}: ${rows}` : stage.counts.total > 0 && `${count(stage.counts.done)} of ${count(stage.counts.total)} done, ${count(stage.counts.failed)} failed`],
        ["Tokens", usage(stage)],
        ["Cost", cost(stage)],
        ["Estimate", stage.estimate.usd !== null && `at most ${dollars(stage.estimate.usd)} for the first wave`],
        ...stage.budgets.map((one) => [`Budget of ${plain(one.name, 200)}`, budgetUse(one)]),
        ["Results", stage.results && h(Copyable, { text: plain(stage.results) })],
      ],
    }),
  );
}

function Times({ stage }) {
  const untilEnd = stage.deadline !== null && isInFlight(stage) ? stage.deadline - Date.now() : null;
  const left = untilEnd === null ? "" : untilEnd > 0 ? ` (${duration(untilEnd)} left)` : " (passed)";
  return h(
    Section,
    { title: "Time" },
    h(Facts, {
      facts: [
        ["Started", stage.startedAt && moment(stage.startedAt)],
        ["Deadline", stage.deadline && `${moment(stage.deadline)}${left}`],
        ["Pace", stage.pace && h(Said, { longest: 300 }, stage.pace)],
        ["Changed", (stage.seenAt ?? stage.changedAt) > 0 && moment(stage.seenAt ?? stage.changedAt)],
        ["Stage", stage.kind && h(Said, { longest: 120 }, stage.kind)],
      ],
    }),
  );
}

// action, more: what the page adds, next to what a person has to do and at the end.
export function Details({ stage, action, more }) {
  return h(
    "div",
    { className: "llmb-grid" },
    h("p", { className: "wide llmb-lead" }, h(Said, null, stage.message ?? ""), " ", h(Link, { to: taskPath(stage) }, "Task and log")),
    stage.nextAction && h(NextAction, { stage, action }),
    h(Receipt, { stage }),
    h(Times, { stage }),
    h(Batches, { stage }),
    h(Reasons, { title: "Why rows have no answer", reasons: stage.errors }),
    h(Reasons, { title: "Why rows are asked again", reasons: stage.askedAgain }),
    more,
  );
}
