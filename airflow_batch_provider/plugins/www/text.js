// How values are written. Text of providers, rows and users is data: it is shortened, its control characters are made
// harmless, and React makes text nodes of it; nothing here or elsewhere makes HTML.

export const LANGUAGE = document.documentElement.lang || undefined;
const LONGEST = 2000;

// Control characters, terminal colours among them, and the marks that turn the direction of the text around them.
const INVISIBLE = /\u001b\[[0-9;?]*[ -/]*[@-~]|[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

export function plain(value, longest = LONGEST) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" ? value : typeof value === "object" ? JSON.stringify(value) : String(value);
  const shown = text.slice(0, longest).replace(INVISIBLE, "");
  return text.length > longest ? `${shown} … (${count(text.length)} characters)` : shown;
}

// An address that a link may have; null for everything else, such as javascript:.
export function webAddress(value) {
  if (typeof value !== "string" || value.length > 2000) return null;
  try {
    return ["http:", "https:"].includes(new URL(value).protocol) ? value : null;
  } catch {
    return null;
  }
}

const WHOLE = new Intl.NumberFormat(LANGUAGE, { maximumFractionDigits: 0 });

export const count = (number) => WHOLE.format(number);

export function numbered(number, one, many) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

// As amounts.py writes them, and from a dollar on in cents: an amount that is not nothing is never shown as nothing.
export function dollars(usd) {
  const decimals = usd >= 1 ? 2 : usd > 0 ? Math.min(Math.max(4, 1 - Math.floor(Math.log10(usd))), 20) : 2;
  return `$${new Intl.NumberFormat(LANGUAGE, { minimumFractionDigits: 2, maximumFractionDigits: decimals }).format(usd)}`;
}

export function duration(milliseconds) {
  const minutes = Math.max(0, Math.floor(milliseconds / 60000));
  if (minutes < 1) return "< 1 min";
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${hours / 24} d`;
}

// Airflow keeps the time zone that the user chose in the browser's storage.
function timeZone() {
  try {
    const kept = localStorage.getItem("timezone")?.replaceAll('"', "");
    if (kept) return new Intl.DateTimeFormat(LANGUAGE, { timeZone: kept }).resolvedOptions().timeZone;
  } catch {
    // A name that the browser does not know, or storage that it denies: the browser's own zone it is.
  }
  return undefined;
}

export function moment(date) {
  return new Intl.DateTimeFormat(LANGUAGE, {
    dateStyle: "medium",
    timeStyle: "short",
    timeZone: timeZone(),
  }).format(date);
}
