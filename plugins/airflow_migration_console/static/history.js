// All runs, newest first, with what each rehearsal said; read a page at a time, two calls for each.

import { PAGE, REHEARSE, keyOf, optional, pages, readRehearsals, readRuns } from "./airflow.js";
import { amount, duration, h, link, moment, secondsBetween } from "./dom.js";
import { KINDS, isOver } from "./run.js";
import { trend } from "./trend.js";

const AT_ONCE = 25;
const COLUMNS = ["Run", "Started", "State", "Downtime", "Findings", "Size", "Took", "Report"];

export function createHistory() {
  let runs = [];
  let total = 0;
  let shown = AT_ONCE;
  const said = new Map(); // by the run's id; reaches as far back as the runs, of which some said nothing
  const figure = h("div", {});
  const body = h("tbody", {});
  const count = h("p", { class: "muted" });
  const more = h("button", { type: "button", onclick: showMore }, "Show more");
  const element = h("section", { class: "card", "aria-label": "History" }, h("h2", {}, "History"), figure,
    h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Table of all runs" },
      h("table", {}, h("thead", {}, h("tr", {}, COLUMNS.map((name) => h("th", { scope: "col" }, name)))), body)),
    h("div", { class: "buttons" }, more, count));

  async function load(offset = 0) {
    const behind = offset ? said.size : 0;
    const [page, rehearsals] = await Promise.all([
      readRuns(offset),
      // Who may read the DAGs but no assets has the table without the figures.
      optional(readRehearsals(behind), { asset_events: [] }, 403),
    ]);
    total = page.total_entries;
    // Between two pages a new run moves the others on; what was read last holds.
    const read = new Map([...runs, ...page.dag_runs].map((run) => [keyOf(run), run]));
    runs = [...read.values()].sort((a, b) => b.run_after.localeCompare(a.run_after)).slice(0, total);
    for (const event of rehearsals.asset_events) said.set(event.source_run_id, { at: event.timestamp, ...event.extra });
    draw();
    return runs;
  }

  async function showMore() {
    shown += AT_ONCE;
    if (shown > runs.length && runs.length < total) await load(runs.length);
    else draw();
  }

  function draw() {
    const rehearsals = [...said.values()].map(pointOf).sort((a, b) => a.at.localeCompare(b.at));
    figure.replaceChildren(...[trend(rehearsals.slice(-PAGE))].filter(Boolean));
    body.replaceChildren(...runs.slice(0, shown).map((run) => row(run, said.get(run.dag_run_id))));
    more.hidden = Math.min(shown, runs.length) >= total;
    count.textContent = `${Math.min(shown, runs.length)} of ${total} runs`;
  }
  return { element, load };
}

const pointOf = ({ at, downtime_seconds, downtime_low, downtime_high, findings }) => ({
  at, downtime: downtime_seconds, low: downtime_low, high: downtime_high, findings,
});

function row(run, said) {
  const rehearsed = run.dag_id === REHEARSE ? said : null;
  return h("tr", {},
    h("th", { scope: "row" }, link(pages.run(run), KINDS[run.dag_id])),
    h("td", {}, moment(run.start_date ?? run.run_after)),
    h("td", {}, h("span", { class: "state", "data-state": run.state }, run.state)),
    h("td", { class: "number" }, rehearsed ? downtime(rehearsed) : "–"),
    h("td", {}, rehearsed ? findings(rehearsed.findings) : "–"),
    h("td", { class: "number" }, rehearsed?.source_bytes ? amount(rehearsed.source_bytes, "bytes") : "–"),
    h("td", { class: "number" }, isOver(run) ? duration(secondsBetween(run.start_date, run.end_date)) : "–"),
    h("td", {}, isOver(run)
      ? link(pages.report(run), "Report", { fresh: true, "aria-label": `Report of ${run.dag_run_id}` })
      : "–"));
}

function downtime({ downtime_seconds, downtime_low, downtime_high }) {
  if (!Number.isFinite(downtime_seconds)) return "–";
  const range = Number.isFinite(downtime_low) && Number.isFinite(downtime_high)
    ? ` (${duration(downtime_low)} to ${duration(downtime_high)})`
    : "";
  return `${duration(downtime_seconds)}${range}`;
}

function findings(found) {
  if (!found) return "–";
  const parts = ["blocker", "warning", "info"].filter((kind) => found[kind])
    .map((kind) => `${found[kind]} ${kind}${found[kind] > 1 && kind !== "info" ? "s" : ""}`);
  return parts.join(", ") || "none";
}
