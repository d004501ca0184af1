// One run: its steps in order with what they say, what failed and what to do about it.

import { MIGRATE, REHEARSE, ROLL_BACK, pages } from "./airflow.js";
import { amount, duration, h, link, moment, say, secondsBetween } from "./dom.js";
import { createQuestions } from "./questions.js";

export const KINDS = { [MIGRATE]: "Migration", [REHEARSE]: "Rehearsal", [ROLL_BACK]: "Roll back" };
const OVER = ["success", "failed"];
const WAITING = ["deferred", "awaiting_input"];
const FAILED = ["failed", "up_for_retry"];
// One that was cleared has the times of its last try still.
const WITHOUT_TIME = ["to come", "scheduled", "queued", "skipped", "upstream_failed"];
const MARKS = { success: "✓", failed: "✕", running: "▶", skipped: "–", up_for_retry: "↻", upstream_failed: "–" };
const STATES = {
  awaiting_input: "waits for a person",
  deferred: "waits",
  up_for_retry: "is tried again",
  upstream_failed: "was not reached",
};

export const isReport = (taskId) => taskId === "report" || taskId === "report_roll_back";
export const isOver = (run) => OVER.includes(run.state);

const named = (taskId) => taskId.replaceAll("_", " ");
const stateOf = (task) => task.state ?? "to come";

/** Steps as the graph has them: behind all that comes before, then by name. */
export function inOrder(tasks, instances) {
  const depth = new Map(tasks.map(({ task_id }) => [task_id, 0]));
  for (let round = 0, changed = true; changed && round < tasks.length; round += 1) {
    changed = false;
    for (const { task_id, downstream_task_ids } of tasks) {
      for (const next of downstream_task_ids ?? []) {
        if (depth.get(next) <= depth.get(task_id)) {
          depth.set(next, depth.get(task_id) + 1);
          changed = true;
        }
      }
    }
  }
  const of = ({ task_id }) => depth.get(task_id) ?? tasks.length;
  return [...instances].sort((a, b) => of(a) - of(b) || a.task_id.localeCompare(b.task_id));
}

/** A view of a run that is brought up to date in place, so that neither focus nor reader loses its place. */
export function createRun(run) {
  const state = h("span", { class: "state" });
  const facts = h("p", { class: "muted" });
  const whole = h("progress", { class: "whole", "aria-label": "Steps done" });
  const links = h("p", { class: "links" });
  const failure = h("div", { class: "failure" });
  const questions = createQuestions(run);
  const steps = new Map();
  const list = h("ol", { class: "steps" });
  const heading = h("h2", {}, `${KINDS[run.dag_id]} `, state);
  const element = h("section", { class: "card", "aria-label": `${KINDS[run.dag_id]} ${run.dag_run_id}` },
    heading, facts, whole, links, questions.element, failure, list);

  function update({ run, instances, errors, said, progress, asked, verdict }) {
    say(state, run.state);
    state.dataset.state = run.state;
    const done = instances.filter(({ state }) => ["success", "skipped"].includes(state)).length;
    facts.replaceChildren(h("code", {}, run.dag_run_id), " · started ", moment(run.start_date),
      ` · ${isOver(run) ? "took" : "runs for"} ${duration(secondsBetween(run.start_date, run.end_date))}`,
      ` · ${done} of ${instances.length} steps done`, verdictOf(verdict));
    whole.max = instances.length || 1;
    whole.value = done;
    show(whole, !isOver(run));
    updateLinks(links, run, Boolean(verdict));
    questions.update(asked);
    updateFailure(failure, run, instances, errors);
    for (const task of instances) {
      if (!steps.has(task.task_id)) steps.set(task.task_id, createStep(run, task));
      const step = steps.get(task.task_id);
      step.update(task, progress.get(task.task_id), said.get(task.task_id));
      if (list.children[instances.indexOf(task)] !== step.element) list.append(step.element);
    }
  }
  return { element, update };
}

/** What the report says of a migration or a rehearsal. */
function verdictOf(verdict) {
  if (typeof verdict?.verified !== "boolean") return "";
  const downtime = verdict.downtime ? `, downtime ${duration(verdict.downtime.seconds)}` : "";
  return h("strong", {}, ` · ${verdict.verified ? "verified" : "not verified"}${downtime}`);
}

function updateLinks(element, run, hasReport) {
  if (element.dataset.shown === String(hasReport)) return;
  element.dataset.shown = hasReport;
  element.replaceChildren(link(pages.run(run), "Graph and logs"),
    ...(hasReport ? [" · ", link(pages.report(run), "Report", { fresh: true })] : []));
}

function createStep(run, task) {
  const mark = h("span", { class: "mark", "aria-hidden": "true" });
  const state = h("span", { class: "state" });
  const time = h("span", { class: "muted" });
  const bar = h("progress", { "aria-label": named(task.task_id), hidden: true });
  const measure = h("p", { class: "measure", hidden: true });
  const sentence = h("p", { class: "said muted", hidden: true });
  const element = h("li", { "data-task": task.task_id }, mark,
    h("div", {}, h("p", { class: "name" }, link(pages.task(run, task.task_id), named(task.task_id)), " ", state, " ", time),
      bar, measure, sentence));

  function update(task, progress, said) {
    const current = stateOf(task);
    const running = current === "running" || WAITING.includes(current);
    element.dataset.state = state.dataset.state = current;
    say(mark, MARKS[current] ?? "·");
    say(state, STATES[current] ?? current);
    say(time, task.start_date && !WITHOUT_TIME.includes(current) ? duration(secondsBetween(task.start_date, task.end_date)) : "");
    show(bar, running && current !== "awaiting_input");
    show(measure, running && progress);
    show(sentence, running && said);
    if (running && progress) setProgress(bar, measure, progress);
    if (said) say(sentence, withoutFrame(said));
  }
  return { element, update };
}

/** A line of a release's log without its time, level, logger and place, as 2.x and 3.x write them. */
const withoutFrame = (line) =>
  line
    .replace(/^\[?\d{4}-\d\d-\d\dT\S+\s+(\{\S+\}\s+)?/, "")
    .replace(/^\[?(info|warning|INFO|WARNING)\s*\]?(\s+\[[\w.]+\])?\s+(- )?/, "")
    .replace(/\s+\[[\w.]+\]\s+loc=\S+$/, "");

const show = (element, shown) => element.toggleAttribute("hidden", !shown);

function setProgress(bar, measure, progress) {
  say(measure, inWords(progress));
  if (!progress.total) bar.removeAttribute("value");
  else {
    bar.max = progress.total;
    bar.value = progress.done;
  }
}

/** "Upgrade to 3.3.2: revision 12 of 40 (30 %), 1 min 10 s left" */
export function inWords({ what, done, total, unit, seconds }) {
  const counted = unit === "revisions" && total
    ? `revision ${done} of ${total}`
    : `${amount(done, unit)}${total ? ` of ${amount(total, unit)}` : ""}`;
  const share = total ? ` (${Math.floor((100 * done) / total)} %)` : "";
  const left = total && done && total > done && seconds > 0 ? `, ${duration((total - done) / (done / seconds))} left` : "";
  return `${what}: ${counted}${share}${left}`;
}

function updateFailure(element, run, instances, errors) {
  const failed = instances.filter(({ state }) => FAILED.includes(state));
  const shown = JSON.stringify([run.state, failed.map((task) => [task.task_id, task.try_number, errors.get(task.task_id)])]);
  if (element.dataset.shown === shown) return;
  element.dataset.shown = shown;
  element.replaceChildren(...failed.map((task) => oneFailure(run, task, errors.get(task.task_id))));
  if (run.state === "failed") element.append(h("h3", {}, "What to do now"), ...nextSteps(run, instances, failed));
}

function oneFailure(run, task, error) {
  const again = task.state === "up_for_retry" ? ", and is tried again" : "";
  return h("div", { class: "error" },
    h("h3", {}, `${named(task.task_id)} failed${again}`),
    error
      ? h("dl", {}, h("dt", {}, "Problem"), h("dd", {}, error.problem), h("dt", {}, "Where"), h("dd", {}, error.where),
          h("dt", {}, "Remedy"), h("dd", {}, error.remedy))
      : h("p", {}, "It left no reason; its log has what happened."),
    h("p", {}, link(pages.task(run, task.task_id), `Log of ${named(task.task_id)}`)));
}

function nextSteps(run, instances, failed) {
  const stateOfTask = (taskId) => instances.find(({ task_id }) => task_id === taskId)?.state ?? null;
  const isDone = (taskId) => stateOfTask(taskId) === "success";
  const clear = failed.length
    ? ["Mend the cause, then clear the failed task ", link(pages.task(run, failed[0].task_id), named(failed[0].task_id)),
        ": the run goes on where it stopped."]
    : ["Mend the cause, then clear what failed."];
  if (run.dag_id === REHEARSE) {
    return [h("p", {}, "Nothing of the source was changed. Mend the cause, then ",
      link(pages.dag(REHEARSE), "rehearse again"), ".")];
  }
  if (run.dag_id === ROLL_BACK) return [h("p", {}, clear), h("p", {}, "A roll back may also be triggered a second time.")];
  if ([null, "upstream_failed", "skipped", "removed"].includes(stateOfTask("pause_dags"))) {
    return [h("p", {}, "Nothing was touched. Mend the cause, then ", link(pages.dag(MIGRATE), "trigger it again"), ".")];
  }
  if (!isDone("clone_database") && isDone("resume_source")) {
    return [h("p", {}, "The source runs again as before. Mend the cause, then ",
      link(pages.dag(MIGRATE), "trigger it again"), ".")];
  }
  return [h("p", {}, clear),
    h("p", {}, "Or go back to the source: trigger ", link(pages.dag(ROLL_BACK), ROLL_BACK), " with ",
      h("code", {}, `migration_id`), " ", h("code", {}, run.dag_run_id), ".")];
}

/** One sentence on what runs, for those who listen. */
export function spoken(run, instances, progress) {
  const task = instances.find(({ state }) => state === "running");
  if (!task) return `${KINDS[run.dag_id]}: ${run.state}`;
  const measured = progress.get(task.task_id);
  const tenth = measured?.total ? `, ${10 * Math.floor((10 * measured.done) / measured.total)} percent` : "";
  return `${KINDS[run.dag_id]}: ${named(task.task_id)}${tenth}`;
}
