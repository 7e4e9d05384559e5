// One line a stage, which opens.

import { Fragment, h, memo } from "./element.js";
import { ClearTask } from "./actions.js";
import { Commands } from "./commands.js";
import { Details } from "./details.js";
import { Badge, BatchLink, RowsBar, Said } from "./parts.js";
import { deadlineShare, needsPerson, share, tokens } from "./order.js";
import { isInFlight } from "./stages.js";
import { count, dollars, duration, LANGUAGE, plain } from "./text.js";

const SHORT = new Intl.NumberFormat(LANGUAGE, { notation: "compact", maximumFractionDigits: 1 });
const shortCount = (number) => (number < 10000 ? count(number) : SHORT.format(number));
const percent = (share) => `${Math.floor(share * 100)} %`;

const COLUMNS = [
  ["task", "Stage"],
  ["state", "State"],
  ["model", "Model"],
  ["rows", "Rows"],
  ["age", "Batches"],
  ["deadline", "Deadline"],
  ["tokens", "Tokens"],
  ["cost", "Cost"],
];

function Heading({ name, label, order, onSort }) {
  const bare = order?.replace(/^-/, "");
  const sign = bare === name ? (order.startsWith("-") ? "↑" : "↓") : "";
  const next = bare !== name ? name : order.startsWith("-") ? null : `-${name}`;
  const direction = sign === "" ? "none" : sign === "↓" ? "descending" : "ascending";
  return h(
    "th",
    { scope: "col", "aria-sort": direction, className: `c-${name}` },
    h("button", { type: "button", onClick: () => onSort(next) }, label, h("span", { "aria-hidden": true }, sign)),
  );
}

const cell = (name, label, ...children) => h("td", { className: `c-${name}`, "data-label": label }, ...children);
const small = (...children) => h("div", { className: "llmb-small" }, ...children);

function Name({ stage, isOpen, onToggle, id }) {
  const task = stage.mapIndex < 0 ? stage.task : `${stage.task}[${stage.mapIndex}]`;
  return h(
    "th",
    { scope: "row", className: "c-task" },
    h(
      "button",
      { type: "button", className: "llmb-open", "aria-expanded": isOpen, "aria-controls": id, onClick: onToggle },
      h("span", { className: "llmb-chevron", "aria-hidden": true }, "›"),
      h(Said, { className: "llmb-task", longest: 120 }, task),
    ),
    small(h(Said, { longest: 120 }, stage.dag), " · ", h(Said, { className: "llmb-run", longest: 120 }, stage.run)),
  );
}

function Rows({ stage }) {
  const { succeeded, failed, total } = stage.counts;
  if (!total && !stage.percent && !isInFlight(stage)) return "–";
  const numbers = total ? `${count(succeeded + failed)} of ${count(total)}` : percent(stage.percent / 100);
  return h(
    Fragment,
    null,
    h(RowsBar, { succeeded, failed, total, share: share(stage) }),
    small(numbers, failed > 0 && h("span", { className: "llmb-failed" }, ` · ${count(failed)} failed`)),
  );
}

function Batches({ stage, age }) {
  const shown = stage.open[0] ?? stage.landed.at(-1) ?? (stage.batchId ? { id: stage.batchId } : null);
  const others = stage.openBatches + stage.landedBatches - 1;
  return h(
    Fragment,
    null,
    shown ? h(BatchLink, { batch: shown }) : "–",
    others > 0 && h("span", { className: "llmb-muted" }, ` +${count(others)}`),
    age && small(`oldest ${age}`),
    !age && stage.landedBatches > 0 && small(`${count(stage.landedBatches)} landed`),
  );
}

function Deadline({ stage, used }) {
  if (used === null) return "–";
  const tone = used >= 0.8 ? "late" : "";
  return h(
    Fragment,
    null,
    h("span", { className: `llmb-share ${tone}` }, h("span", { style: { width: `${used * 100}%` } })),
    small(`${percent(used)} of ${duration(stage.deadline - stage.startedAt)}`),
  );
}

function Cost({ stage }) {
  const { usd, saved, estimated } = stage.cost;
  const most = stage.estimate.usd;
  const shown = usd === null || (usd === 0 && !stage.landedBatches && isInFlight(stage)) ? "–" : dollars(usd);
  return h(
    Fragment,
    null,
    h("span", { title: estimated ? "A batch discount of one half is assumed: no batch price is published." : undefined },
      estimated && shown !== "–" ? `≈ ${shown}` : shown),
    isInFlight(stage) && most !== null && small(`at most ${dollars(most)}`),
    !isInFlight(stage) && saved > 0 && small(h("span", { className: "llmb-saved" }, `saved ${dollars(saved)}`)),
  );
}

const Opened = ({ stage }) =>
  h(Details, { stage, action: isInFlight(stage) ? null : h(ClearTask, { stage }), more: h(Commands, { stage }) });

// age and used are given as they are shown, so that a line is drawn again only when it looks different.
const Line = memo(function Line({ stage, age, used, isOpen, onToggle }) {
  const id = `llmb-${plain(stage.key).replace(/[^A-Za-z0-9]+/g, "-")}`;
  const toggle = () => onToggle(stage.key);
  const isLink = (event) => event.target.closest("a, button") !== null;
  const wave = stage.wave > 0 || stage.openBatches > 0 ? `wave ${stage.wave}` : null;
  return h(
    Fragment,
    null,
    h(
      "tr",
      { className: `llmb-line${isOpen ? " open" : ""}${needsPerson(stage) ? " asks" : ""}`, onClick: (event) => isLink(event) || toggle() },
      h(Name, { stage, isOpen, onToggle: toggle, id }),
      cell("state", "State", h(Badge, { state: stage.state }), wave && small(wave)),
      cell("model", "Model", stage.model ? h(Said, { longest: 80 }, stage.model) : "–",
        stage.provider && small(h(Said, { longest: 40 }, stage.provider))),
      cell("rows", "Rows", h(Rows, { stage })),
      cell("age", "Batches", h(Batches, { stage, age })),
      cell("deadline", "Deadline", h(Deadline, { stage, used })),
      cell("tokens", "Tokens", tokens(stage) ? shortCount(tokens(stage)) : "–"),
      cell("cost", "Cost", h(Cost, { stage })),
    ),
    isOpen &&
      h("tr", { className: "llmb-details", id }, h("td", { colSpan: COLUMNS.length }, h(Opened, { stage }))),
  );
});

export function Table({ stages, now, order, onSort, openKeys, onToggle }) {
  return h(
    "table",
    { className: "llmb-table" },
    h("caption", { className: "llmb-hidden" }, "Stages that ask language models in batches, one a line"),
    h("thead", null, h("tr", null, COLUMNS.map(([name, label]) => h(Heading, { key: name, name, label, order, onSort })))),
    h(
      "tbody",
      null,
      stages.map((stage) => {
        const used = isInFlight(stage) ? deadlineShare(stage, now) : null;
        return h(Line, {
          key: stage.key,
          stage,
          age: stage.oldestAt !== null && Number.isFinite(stage.oldestAt) ? duration(now - stage.oldestAt) : null,
          used: used === null ? null : Math.floor(used * 200) / 200,
          isOpen: openKeys.has(stage.key),
          onToggle,
        });
      }),
    ),
  );
}
