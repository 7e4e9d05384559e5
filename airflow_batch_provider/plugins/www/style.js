// The looks of what page and tab share, on Airflow's own colours where it has them, in light and in dark.

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
.llmb h3 { font-size: 12px; font-weight: 600; color: var(--soft); margin: 0 0 8px; text-transform: uppercase; letter-spacing: .05em; }
.llmb a { color: var(--link); text-decoration: none; } .llmb a:hover { text-decoration: underline; }
.llmb code, .llmb .llmb-id { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .92em; }
.llmb button { font: inherit; color: inherit; background: none; cursor: pointer; }
.llmb :focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; border-radius: 6px; }
.llmb bdi { overflow-wrap: anywhere; }
.llmb-muted, .llmb-small, .llmb .note { color: var(--soft); }
.llmb-small { font-size: 12px; margin-top: 2px; }
.llmb-wait { padding: 40px 0; text-align: center; }

.llmb-badge { display: inline-flex; gap: 6px; align-items: center; border-radius: 999px; padding: 1px 10px 1px 8px; font-size: 12.5px; font-weight: 550; white-space: nowrap; background: var(--idle-soft); color: var(--soft); }
.llmb-badge i { width: 7px; height: 7px; border-radius: 50%; background: currentColor; }
.llmb-badge.busy { background: var(--busy-soft); color: var(--busy); } .llmb-badge.good { background: var(--good-soft); color: var(--good); }
.llmb-badge.bad { background: var(--bad-soft); color: var(--bad); } .llmb-badge.warn { background: var(--warn-soft); color: var(--warn); }
.llmb-badge.busy i { animation: llmb-pulse 1.8s ease-in-out infinite; }
@keyframes llmb-pulse { 50% { opacity: .3; } }
@media (prefers-reduced-motion: reduce) { .llmb * { animation: none !important; transition: none !important; } }
.llmb-bar, .llmb-share { display: flex; height: 7px; border-radius: 4px; overflow: hidden; background: var(--track); margin: 7px 0 4px; max-width: 220px; }
.llmb-bar .good { background: var(--good-fill); } .llmb-bar .bad { background: var(--bad-fill); } .llmb-bar span { transition: width .4s; }

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
@container (max-width: 860px) { .llmb-grid { grid-template-columns: minmax(0, 1fr); } }
`;

// Puts rules on the page, once; without any those that page and tab share.
export function addStyle(name = "llmb-style", css = CSS) {
  if (document.getElementById(name)) return;
  const style = document.createElement("style");
  style.id = name;
  style.textContent = css;
  document.head.append(style);
}
