// Small parts that table and details share.

import { h, useState } from "./element.js";
import { count, numbered, plain, webAddress } from "./text.js";
import { STATES } from "./stages.js";

// Somebody else's words: isolated, so that their direction does not turn the text around them.
export const Said = ({ children, className, longest }) =>
  h("bdi", { className, title: plain(children, 500) }, plain(children, longest));

export function Badge({ state }) {
  const { label, tone, says } = STATES[state];
  return h("span", { className: `llmb-badge ${tone}`, title: says }, h("i", { "aria-hidden": true }), label);
}

export function RowsBar({ succeeded, failed, total, share }) {
  const of = (rows) => `${total ? (100 * rows) / total : 0}%`;
  const words = total
    ? `${count(succeeded + failed)} of ${numbered(total, "row", "rows")} done, ${count(failed)} failed`
    : `${Math.floor(share * 100)} percent done`;
  return h(
    "div",
    { className: "llmb-bar", role: "img", "aria-label": words, title: words },
    h("span", { className: "good", style: { width: total ? of(succeeded) : `${share * 100}%` } }),
    h("span", { className: "bad", style: { width: of(failed) } }),
  );
}

export function BatchLink({ batch, longest = 15 }) {
  const address = webAddress(batch.url);
  const id = batch.id.length > longest ? `${batch.id.slice(0, longest - 7)}…${batch.id.slice(-6)}` : batch.id;
  const shown = h("bdi", { className: "llmb-id", title: plain(batch.id, 300) }, plain(id, longest));
  if (!address) return shown;
  const label = `Batch ${plain(batch.id, 100)} at the provider's console`;
  return h(
    "a",
    { href: address, target: "_blank", rel: "noopener noreferrer", "aria-label": label },
    shown,
    h("span", { "aria-hidden": true }, " ↗"),
  );
}

export function Copyable({ text }) {
  const [isCopied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  const canCopy = globalThis.navigator?.clipboard !== undefined; // browsers have it on safe addresses only
  return h(
    "span",
    { className: "llmb-copy" },
    h("code", null, text),
    canCopy && h("button", { type: "button", onClick: copy, "aria-label": `Copy ${text}` }, isCopied ? "Copied" : "Copy"),
  );
}
