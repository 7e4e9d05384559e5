// Answers the page's questions to Airflow from memory: COUNT stages, each a few milliseconds away.
(() => {
  const COUNT = 500;
  const STATES = ["waiting", "succeeded", "unmet", "paused", "unresolved"];
  const MODELS = [["anthropic", "claude-haiku-4-5"], ["openai", "gpt-5-mini"], ["google", "gemini-2.5-flash"]];
  const now = Date.now();
  const at = (minutes) => new Date(now - minutes * 60000).toISOString();
  const entry = (n) => ({
    key: "batch_progress", dag_id: `dag_${n % 20}`, run_id: `run_${n}`, task_id: "ask", map_index: -1, timestamp: at(n),
  });
  const record = (n) => {
    const state = STATES[n % STATES.length];
    const [provider, model] = MODELS[n % MODELS.length];
    return {
      schema_version: 1, stage: "batch-generate", provider, model, state, message: `Stage ${n}.`, progress: n % 100, wave: n % 3,
      counts: { total: 1000, done: n, succeeded: n - (n % 7), failed: n % 7 },
      batches: state === "waiting" ? [{ batch_id: `batch_${n}`, state: "processing", requests: 1000, submitted_at: at(n) }] : [],
      open_batches: state === "waiting" ? 1 : 0, landed_batches: 2, started_at: at(n), deadline: at(n - 1440), seen_at: at(n),
      usage: { input_tokens: 1000 * n, output_tokens: 10 * n }, cost: { usd: n / 100, saved_usd: n / 100 },
      estimate: { usd: n / 50 }, next_action: state === "unresolved" ? "airflow batches absent tag-1." : null,
    };
  };
  const task = (n) => ({ dag_id: `dag_${n % 20}`, dag_run_id: `run_${n}`, task_id: "ask", map_index: -1, state: "deferred",
    trigger: { classpath: "airflow_batch_provider.triggers.stage.AsyncBatchTrigger" } });
  const all = Array.from({ length: COUNT }, (_, n) => n);
  const page = (items, query) => items.slice(Number(query.get("offset")), Number(query.get("offset")) + Number(query.get("limit")));
  const real = globalThis.fetch;
  globalThis.asked = 0;
  globalThis.fetch = async (address, options) => {
    const url = new URL(address instanceof Request ? address.url : address, document.baseURI);
    const reply = (body) => new Promise((done) => setTimeout(() => done(new Response(JSON.stringify(body), { status: 200 })), 3));
    const one = url.pathname.match(/dagRuns\/run_(\d+)\/taskInstances\/ask\/xcomEntries\/batch_progress$/);
    if (one) return ((globalThis.asked += 1), reply({ value: record(Number(one[1])) }));
    if (url.pathname.endsWith("/taskInstances/~/xcomEntries")) return reply({ xcom_entries: page(all, url.searchParams).map(entry) });
    if (url.pathname.endsWith("/dags/~/dagRuns/~/taskInstances"))
      return reply({ task_instances: page(all.filter((n) => n % STATES.length === 0), url.searchParams).map(task) });
    if (url.pathname.endsWith("/taskInstances/list")) return reply({ task_instances: [] });
    return real(address, options);
  };
})();
