// Keeps the stages as they are now: asks while the page is seen, is silent while it is hidden, waits longer after errors.

import { readRecord } from "./airflow.js";
import { forEachOf, listRecords, listStates, listWaiting } from "./api.js";
import { isInFlight, keyOf, parseRecord, stageOf, withTask } from "./stages.js";

const BUSY = 5000; // milliseconds between two polls while something is in flight
const QUIET = 15000;
const LONGEST = 60000; // after errors
const DRAW = 250; // between two drawings while records arrive
const WHOLE = 12; // looks between two that read the whole list, to notice what was cleared
const MOST_CHECKED = 100;

export class Watch {
  #scope;
  #tell;
  #entries = new Map(); // key → what the list told of a stage
  #records = new Map(); // key → { timestamp, record }, as it was read
  #tasks = new Map(); // key → Airflow's state of the task instance, undefined when nobody knows
  #drawn = new Map(); // key → [entry, record, task, stage]: what has not changed stays the same object
  #looks = 0;
  #failures = 0;
  #timer;
  #drawing;
  #abort;

  // tell: called with { stages, error, seenAt } whenever something has changed.
  constructor(scope, tell) {
    this.#scope = scope;
    this.#tell = tell;
  }

  start() {
    document.addEventListener("visibilitychange", this.#onVisibility);
    this.#onVisibility();
  }

  stop() {
    document.removeEventListener("visibilitychange", this.#onVisibility);
    this.#pause();
  }

  lookNow() {
    this.#pause();
    this.#look();
  }

  #onVisibility = () => {
    if (document.visibilityState === "hidden") this.#pause();
    else this.lookNow();
  };

  #pause() {
    clearTimeout(this.#timer);
    clearTimeout(this.#drawing);
    this.#drawing = undefined;
    this.#abort?.abort();
  }

  async #look() {
    const abort = (this.#abort = new AbortController());
    try {
      await this.#refresh(abort.signal);
      if (abort.signal.aborted) return;
      this.#failures = 0;
      this.#draw({ error: null, seenAt: Date.now(), isComplete: true });
    } catch (error) {
      if (abort.signal.aborted) return;
      this.#failures += 1;
      this.#draw({ error });
    }
    this.#timer = setTimeout(() => this.#look(), this.#pauseLength());
  }

  #pauseLength() {
    if (this.#failures) return Math.min(BUSY * 2 ** this.#failures, LONGEST);
    return [...this.#drawn.values()].some(([, , , stage]) => isInFlight(stage)) ? BUSY : QUIET;
  }

  async #refresh(signal) {
    const isWhole = this.#looks % WHOLE === 0;
    const isKnown = (entry) => !isWhole && this.#records.get(keyOf(entry))?.timestamp === entry.timestamp;
    const [waiting, entries] = await Promise.all([
      listWaiting(this.#scope, signal),
      listRecords(this.#scope, isKnown, signal),
    ]);
    this.#looks += 1;
    if (isWhole) this.#entries.clear();
    for (const entry of entries) this.#entries.set(keyOf(entry), entry);
    const waits = new Set(waiting.map(keyOf));
    for (const place of waiting) if (!this.#entries.has(keyOf(place))) this.#entries.set(keyOf(place), place);
    this.#drawSoon();
    await forEachOf(this.#unread(waits), (entry) => this.#read(entry, signal));
    await this.#readStates(waits, signal);
  }

  // What waits comes first, then the newest.
  #unread(waits) {
    const unread = [...this.#entries].filter(([key, entry]) => {
      const known = this.#records.get(key);
      return !known || (entry.timestamp !== undefined && known.timestamp !== entry.timestamp);
    });
    return unread.sort(([one], [other]) => waits.has(other) - waits.has(one)).map(([, entry]) => entry);
  }

  async #read(entry, signal) {
    const value = await readRecord(entry, signal);
    const key = keyOf(entry);
    if (value === undefined) this.#entries.delete(key);
    else this.#records.set(key, { timestamp: entry.timestamp, record: parseRecord(value) });
    this.#drawSoon();
  }

  async #readStates(waits, signal) {
    const asked = this.#stages().filter((stage) => stage.state !== "succeeded" && !waits.has(stage.key));
    const first = asked.sort((one, other) => isInFlight(other) - isInFlight(one)).slice(0, MOST_CHECKED);
    const places = first.map((stage) => this.#entries.get(stage.key));
    const { states, areAll } = await listStates(places, signal);
    const known = new Map(states.map(([place, state]) => [keyOf(place), state]));
    this.#tasks = new Map([...waits].map((key) => [key, "deferred"]));
    for (const { key } of first) this.#tasks.set(key, known.get(key) ?? (areAll ? null : undefined));
  }

  #stages() {
    return [...this.#entries].map(([key, entry]) => this.#stage(key, entry));
  }

  #stage(key, entry) {
    const record = this.#records.get(key)?.record ?? null;
    const task = this.#tasks.get(key);
    const drawn = this.#drawn.get(key);
    if (drawn && drawn[0].timestamp === entry.timestamp && drawn[1] === record && drawn[2] === task) return drawn[3];
    const stage = withTask(stageOf(entry, record), task);
    this.#drawn.set(key, [entry, record, task, stage]);
    return stage;
  }

  #drawSoon() {
    this.#drawing ??= setTimeout(() => this.#draw({}), DRAW);
  }

  #draw(news) {
    clearTimeout(this.#drawing);
    this.#drawing = undefined;
    const stages = this.#stages();
    for (const key of this.#drawn.keys()) if (!this.#entries.has(key)) this.#drawn.delete(key);
    this.#tell({ stages, ...news });
  }
}
