// The page's looks, on Airflow's own colours where it has them, in light and in dark.

const CSS = `
.llmb {
  --fg: var(--chakra-colors-fg, #18181b); --soft: #52525b; --bg: var(--chakra-colors-bg, #fff);
  --card: #f7f7f8; --line: #e4e4e7; --hover: #f4f6fb; --track: #e4e4e7; --link: #1d4ed8; --focus: #2563eb;
  --good: #15803d; --good-fill: #22a35a; --bad: #b91c1c; --bad-fill: #e5484d; --warn: #9a4b00; --busy: #1d4ed8; --busy-fill: #3b82f6;
  --good-soft: #e3f5ea; --bad-soft: #fdeaea; --warn-soft: #fdf0dc; --busy-soft: #e6efff; --idle-soft: #ececef;
  color: var(--fg); font-size: 14px; line-height: 1.45; padding: 20px 24px 48px; width: 100%; max-width: 1560px; margin: 0 auto; container-type: inline-size;
}
.dark .llmb {
  --soft: #a8a8b3; --card: #1c2434; --line: #2f394b; --hover: #1e2737; --track: #364053; --link: #8ab4ff; --focus: #7aa7ff;
  --good: #6ee7a0; --good-fill: #2fb56a; --bad: #ff9b9b; --bad-fill: #ef5a60; --warn: #ffc272; --busy: #9cc0ff; --busy-fill: #4d8dff;
  --good-soft: #12301f; --bad-soft: #3a181a; --warn-soft: #392710; --busy-soft: #16274a; --idle-soft: #2a3344;
}
.llmb h1 { font-size: 24px; font-weight: 650; letter-spacing: -.01em; margin: 0; }
.llmb h2 { font-size: 17px; font-weight: 600; margin: 0 0 6px; }
.llmb h3 { font-size: 12px; font-weight: 600; color: var(--soft); margin: 0 0 8px; text-transform: uppercase; letter-spacing: .05em; }
.llmb a { color: var(--link); text-decoration: none; } .llmb a:hover { text-decoration: underline; }
.llmb code, .llmb .llmb-id { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .92em; }
.llmb button { font: inherit; color: inherit; background: none; cursor: pointer; }
.llmb :focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; border-radius: 6px; }
.llmb bdi { overflow-wrap: anywhere; }
.llmb-muted, .llmb-small, .llmb .note { color: var(--soft); }
.llmb-small { font-size: 12px; margin-top: 2px; }
.llmb-line .c-age a, .llmb-line .c-tokens { white-space: nowrap; }
.llmb-line .llmb-id { white-space: nowrap; overflow-wrap: normal; }
.llmb-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.llmb-wait { padding: 40px 0; text-align: center; }

.llmb-tiles { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 12px; margin: 18px 0; }
.llmb .llmb-tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; text-align: start; display: flex; flex-direction: column; min-width: 0; }
.llmb .llmb-tile .label { font-size: 12px; color: var(--soft); font-weight: 550; }
.llmb .llmb-tile strong { font-size: 24px; font-weight: 650; letter-spacing: -.015em; font-variant-numeric: tabular-nums; }
.llmb .llmb-tile .note { font-size: 12px; }
.llmb .llmb-tile.busy strong { color: var(--busy); } .llmb .llmb-tile.bad strong { color: var(--bad); }
.llmb button.llmb-tile:hover { border-color: var(--focus); }
.llmb button.llmb-tile[aria-pressed="true"] { border-color: var(--focus); box-shadow: inset 0 0 0 1px var(--focus); }

.llmb-filters { display: flex; flex-wrap: wrap; gap: 10px 14px; align-items: end; margin-bottom: 12px; }
.llmb-filter label { display: block; font-size: 12px; color: var(--soft); margin-bottom: 3px; }
.llmb-filter select { font: inherit; color: var(--fg); background: var(--bg); border: 1px solid var(--line); border-radius: 8px; padding: 6px 28px 6px 10px; min-width: 130px; max-width: 240px; height: 34px; }
.llmb-count { margin: 0 0 7px auto; color: var(--soft); font-size: 13px; }
.llmb-chip { display: inline-flex; gap: 8px; align-items: center; height: 34px; background: var(--busy-soft); border-radius: 999px; padding: 0 6px 0 14px; margin: 0; }
.llmb-chip bdi { font-weight: 600; }
.llmb .llmb-chip button, .llmb .llmb-plain, .llmb-trouble button, .llmb .llmb-more { border: 1px solid var(--line); background: var(--bg); border-radius: 8px; padding: 3px 10px; }
.llmb .llmb-chip button { border-radius: 999px; } .llmb .llmb-plain { height: 34px; }
.llmb .llmb-more { display: block; margin: 14px auto; padding: 7px 18px; }
.llmb-trouble { display: flex; gap: 14px; align-items: center; justify-content: space-between; background: var(--warn-soft); color: var(--warn); border-radius: 10px; padding: 10px 14px; margin-top: 16px; }

.llmb-table { width: 100%; border-collapse: separate; border-spacing: 0; border: 1px solid var(--line); border-radius: 10px; table-layout: fixed; }
.llmb-table > thead th { font-size: 12px; text-align: start; padding: 0 10px; height: 36px; background: var(--card); border-bottom: 1px solid var(--line); position: sticky; top: 0; z-index: 1; }
.llmb-table > thead th:first-child { border-start-start-radius: 10px; padding-inline-start: 34px; } .llmb-table > thead th:last-child { border-start-end-radius: 10px; }
.llmb-table > thead button { font-weight: 600; color: var(--soft); display: inline-flex; gap: 4px; padding: 4px 0; }
.llmb-table > thead button:hover, .llmb-table > thead [aria-sort$="ending"] button { color: var(--fg); }
.llmb-line > * { padding: 10px; vertical-align: top; text-align: start; font-weight: 400; border-top: 1px solid var(--line); min-width: 0; }
.llmb-table > tbody > tr:first-child > * { border-top: 0; }
.llmb-line { cursor: pointer; } .llmb-line:hover, .llmb-line.open { background: var(--hover); }
.llmb-line.asks > :first-child { box-shadow: inset 3px 0 0 var(--bad-fill); }
.llmb-table .c-task { width: 25%; } .llmb-table .c-state { width: 12%; } .llmb-table .c-model { width: 13%; } .llmb-table .c-rows { width: 15%; }
.llmb-table .c-age { width: 14%; } .llmb-table .c-deadline { width: 10%; } .llmb-table .c-tokens { width: 6%; } .llmb-table .c-cost { width: 10%; }
.llmb-table .c-tokens, .llmb-table .c-cost { font-variant-numeric: tabular-nums; }
.llmb .llmb-open { display: flex; gap: 8px; align-items: baseline; text-align: start; width: 100%; padding: 0; }
.llmb-open .llmb-task { font-weight: 600; min-width: 0; }
.llmb-chevron { display: inline-block; width: 16px; flex: none; text-align: center; color: var(--soft); transition: transform .12s; font-size: 17px; line-height: 1; }
.llmb-open[aria-expanded="true"] .llmb-chevron { transform: rotate(90deg); }
.llmb-line .c-task .llmb-small { padding-inline-start: 24px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.llmb-line .c-task .llmb-small bdi { overflow-wrap: normal; }
.llmb-badge { display: inline-flex; gap: 6px; align-items: center; border-radius: 999px; padding: 1px 10px 1px 8px; font-size: 12.5px; font-weight: 550; white-space: nowrap; background: var(--idle-soft); color: var(--soft); }
.llmb-badge i { width: 7px; height: 7px; border-radius: 50%; background: currentColor; }
.llmb-badge.busy { background: var(--busy-soft); color: var(--busy); } .llmb-badge.good { background: var(--good-soft); color: var(--good); }
.llmb-badge.bad { background: var(--bad-soft); color: var(--bad); } .llmb-badge.warn { background: var(--warn-soft); color: var(--warn); }
.llmb-badge.busy i { animation: llmb-pulse 1.8s ease-in-out infinite; }
@keyframes llmb-pulse { 50% { opacity: .3; } }
@media (prefers-reduced-motion: reduce) { .llmb * { animation: none !important; transition: none !important; } }
.llmb-bar, .llmb-share { display: flex; height: 7px; border-radius: 4px; overflow: hidden; background: var(--track); margin: 7px 0 4px; max-width: 220px; }
.llmb-bar .good { background: var(--good-fill); } .llmb-bar .bad { background: var(--bad-fill); } .llmb-bar span { transition: width .4s; }
.llmb-share span { background: var(--busy-fill); } .llmb-share.late span { background: var(--bad-fill); }
.llmb-failed { color: var(--bad); } .llmb-saved { color: var(--good); }

.llmb-details > td { padding: 4px 20px 22px 34px; background: var(--hover); }
.llmb-grid { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 18px 28px; }
.llmb-grid .wide, .llmb-next { grid-column: 1 / -1; } .llmb-lead { margin: 0; }
.llmb dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 4px 16px; margin: 0; } .llmb dt { color: var(--soft); } .llmb dd { margin: 0; overflow-wrap: anywhere; }
.llmb-next { background: var(--bad-soft); border-inline-start: 3px solid var(--bad-fill); border-radius: 8px; padding: 12px 16px; }
.llmb-next h3 { color: var(--bad); } .llmb-next p { margin: 0 0 6px; } .llmb-next ul { list-style: none; padding: 0; margin: 0 0 8px; display: grid; gap: 6px; }
.llmb-copy { display: inline-flex; flex-wrap: wrap; gap: 8px; align-items: center; } .llmb-copy code { overflow-wrap: anywhere; background: var(--bg); border: 1px solid var(--line); border-radius: 6px; padding: 1px 8px; }
.llmb .llmb-copy button { font-size: 12px; border: 1px solid var(--line); background: var(--bg); border-radius: 6px; padding: 1px 8px; }
.llmb-scroll { overflow-x: auto; } .llmb-inner { width: 100%; border-collapse: collapse; } .llmb-inner td { padding: 5px 14px 5px 0; border-top: 1px solid var(--line); white-space: nowrap; }
.llmb-inner td.n { font-variant-numeric: tabular-nums; } .llmb-inner .llmb-bar { width: 130px; margin: 0; } .llmb-inner th { text-align: start; padding: 8px 0 5px; font-weight: 600; } .llmb-inner th span { font-weight: 400; color: var(--soft); }
.llmb-reasons { list-style: none; margin: 0; padding: 0; display: grid; gap: 10px; } .llmb-reasons li { display: grid; gap: 2px; border-inline-start: 3px solid var(--line); padding-inline-start: 12px; }
.llmb-reasons code { margin-inline-end: 8px; }
.llmb-empty { border: 1px dashed var(--line); border-radius: 12px; padding: 36px 24px; text-align: center; color: var(--soft); } .llmb-empty h2 { color: var(--fg); }
.llmb-empty p { margin: 6px auto; max-width: 560px; } .llmb-empty pre { display: inline-block; text-align: start; background: var(--card); color: var(--fg); border: 1px solid var(--line); border-radius: 8px; padding: 12px 18px; margin: 10px 0; max-width: 100%; overflow-x: auto; }

/* Where a line does not fit, it becomes a card. */
@container (max-width: 860px) {
  .llmb-tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .llmb-table, .llmb-table > tbody, .llmb-table > tbody > tr, .llmb-table > tbody > tr > * { display: block; }
  .llmb-table > thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .llmb-table > tbody > .llmb-line { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 10px 16px; padding: 12px 14px; border-top: 1px solid var(--line); }
  .llmb-table > tbody > .llmb-line > * { width: auto; border: 0; padding: 0; } .llmb-table > tbody > .llmb-line > .c-task { grid-column: 1 / -1; padding-inline-start: 8px; }
  .llmb-line > td::before { content: attr(data-label); display: block; font-size: 11px; color: var(--soft); }
  .llmb-details > td { padding: 4px 14px 20px; } .llmb-grid { grid-template-columns: minmax(0, 1fr); }
  .llmb-count { margin-inline-start: 0; }
}
`;

export function addStyle() {
  if (document.getElementById("llmb-style")) return;
  const style = document.createElement("style");
  style.id = "llmb-style";
  style.textContent = CSS;
  document.head.append(style);
}
