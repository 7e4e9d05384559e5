// The looks of the page alone: its tiles, filters, lines and, where a line does not fit, cards.

export const PAGE_CSS = `
.llmb h1 { font-size: 24px; font-weight: 650; letter-spacing: -.01em; margin: 0; }
.llmb h2 { font-size: 17px; font-weight: 600; margin: 0 0 6px; }
.llmb-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.llmb-empty { border: 1px dashed var(--line); border-radius: 12px; padding: 36px 24px; text-align: center; color: var(--soft); } .llmb-empty h2 { color: var(--fg); }
.llmb-empty p { margin: 6px auto; max-width: 560px; } .llmb-empty pre { display: inline-block; text-align: start; background: var(--card); color: var(--fg); border: 1px solid var(--line); border-radius: 8px; padding: 12px 18px; margin: 10px 0; max-width: 100%; overflow-x: auto; }
.llmb-failed { color: var(--bad); } .llmb-saved { color: var(--good); }
.llmb-share span { background: var(--busy-fill); } .llmb-share.late span { background: var(--bad-fill); }
.llmb-line .c-age a, .llmb-line .c-tokens { white-space: nowrap; }
.llmb-line .llmb-id { white-space: nowrap; overflow-wrap: normal; }
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
.llmb-details > td { padding: 4px 20px 22px 34px; background: var(--hover); }
.llmb-commands ul { list-style: none; margin: 0; padding: 0; display: grid; gap: 8px; } .llmb-commands li { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: baseline; }
/* Where a line does not fit, it becomes a card. */
@container (max-width: 860px) {
  .llmb-tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .llmb-table, .llmb-table > tbody, .llmb-table > tbody > tr, .llmb-table > tbody > tr > * { display: block; }
  .llmb-table > thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .llmb-table > tbody > .llmb-line { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 10px 16px; padding: 12px 14px; border-top: 1px solid var(--line); }
  .llmb-table > tbody > .llmb-line > * { width: auto; border: 0; padding: 0; } .llmb-table > tbody > .llmb-line > .c-task { grid-column: 1 / -1; padding-inline-start: 8px; }
  .llmb-line > td::before { content: attr(data-label); display: block; font-size: 11px; color: var(--soft); }
  .llmb-details > td { padding: 4px 14px 20px; }
  .llmb-count { margin-inline-start: 0; }
}
`;
