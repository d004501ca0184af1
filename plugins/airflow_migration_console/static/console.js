// The page: what runs now or ran last, and all that ran before. As the tab of a run, that run alone.

import {
  DAGS, MIGRATE, REHEARSE, keyOf, optional, pages, readDag, readQuestions, readRun, readTaskInstances, readTasks, readXCom,
  readXComs,
} from "./airflow.js";
import { followTheme, h, link, say } from "./dom.js";
import { createHistory } from "./history.js";
import { createRun, inOrder, isOver, isReport, spoken } from "./run.js";

const EVERY = 3000; // ms between two looks at what runs
const HISTORY_EVERY = 30000;
const SLOWEST = 15000; // while the API does not answer
const AT_MOST = 3; // runs at a time
const ASKS = ["deferred", "awaiting_input"];

const main = document.getElementById("main");
const trouble = document.getElementById("trouble");
const spokenLine = document.getElementById("spoken");
const query = new URLSearchParams(location.search);
const only = query.get("run_id") && { dag_id: query.get("dag_id") ?? "", dag_run_id: query.get("run_id") };

const history = createHistory();
const now = h("div", {});
const views = new Map(); // by DAG and run: what is shown of it, and what was read already
const order = new Map(); // by DAG: its tasks
let runs = [];
let historyReadAt = 0;
let timer = null;
let pause = EVERY;
let busy = false;

const isActive = (run) => !isOver(run);

async function look({ everything = false } = {}) {
  if (busy) return;
  busy = true;
  clearTimeout(timer);
  try {
    await (only ? lookAtOne() : lookAround(everything));
    say(trouble, "");
    pause = EVERY;
  } catch (error) {
    explain(error);
  } finally {
    busy = false;
    main.setAttribute("aria-busy", "false");
    plan();
  }
}

function plan() {
  const active = [...views.values()].some(({ run }) => isActive(run));
  // Nothing is asked for a page that nobody sees, or that would stay as it is.
  if (document.visibilityState === "visible" && (active || trouble.dataset.again)) timer = setTimeout(look, pause);
}

function explain(error) {
  delete trouble.dataset.again;
  if (error.status === 401) {
    trouble.replaceChildren("You are not logged in any more. ", link(pages.login(), "Log in"));
  } else if (error.status === 403 || error.status === 404) {
    views.clear();
    main.replaceChildren(nothingToSee());
  } else {
    say(trouble, "Airflow's API does not answer; it is asked again. What is shown is as it was before.");
    trouble.dataset.again = true;
    pause = Math.min(SLOWEST, pause * 1.5);
    if (!(error.status || error instanceof TypeError || error instanceof SyntaxError)) console.error(error);
  }
}

async function lookAtOne() {
  if (!DAGS.includes(only.dag_id)) {
    main.replaceChildren(h("p", { class: "card" }, "This run is none of a migration, a rehearsal or a roll back."));
    return;
  }
  document.body.classList.add("tab");
  runs = [await readRun(only)];
  await update(runs);
  place(now);
}

async function lookAround(everything) {
  const due = everything || Date.now() - historyReadAt > HISTORY_EVERY;
  const before = [...views.values()].map(({ run }) => run);
  // A run may be deleted meanwhile.
  const current = due ? null : await Promise.all(before.filter(isActive).map((run) => optional(readRun(run), null, 404)));
  if (due || current.some((run) => !run || isOver(run))) {
    runs = await history.load();
    historyReadAt = Date.now();
  } else {
    runs = runs.map((run) => current.find((each) => keyOf(each) === keyOf(run)) ?? run);
  }
  if (!runs.length) await readDag(MIGRATE); // refused to those who would not see its runs either
  const active = runs.filter(isActive).slice(0, AT_MOST);
  await update(active.length ? active : runs.slice(0, 1));
  place(...(runs.length ? [now, history.element] : [howToBegin()]));
}

function place(...elements) {
  if (elements.some((element, number) => main.children[number] !== element)) main.replaceChildren(...elements);
}

async function update(shown) {
  for (const key of views.keys()) if (!shown.some((run) => keyOf(run) === key)) views.delete(key);
  await Promise.all(shown.map(updateOne));
  const elements = shown.map((run) => views.get(keyOf(run)).view.element);
  if (elements.some((element, number) => now.children[number] !== element) || now.children.length !== elements.length) {
    now.replaceChildren(...elements);
  }
}

async function updateOne(run) {
  const key = keyOf(run);
  if (!views.has(key)) views.set(key, { view: createRun(run), values: new Map(), run });
  const kept = views.get(key);
  // Who may read the run but not its XComs or questions sees the steps.
  const [tasks, instances, xcoms] = await Promise.all([
    orderOf(run.dag_id), readTaskInstances(run), optional(readXComs(run), [], 403),
  ]);
  const asks = isActive(run) && instances.some(({ state }) => ASKS.includes(state));
  const [asked] = await Promise.all([
    asks ? optional(readQuestions(run), [], 403) : [], readValues(run, instances, xcoms, kept.values),
  ]);
  const of = (key) => new Map(instances.map(({ task_id }) => [task_id, kept.values.get(`${task_id} ${key}`)?.value]));
  const sorted = inOrder(tasks, instances);
  const progress = of("progress");
  const verdict = [...of("return_value").values()].find(Boolean);
  kept.run = run;
  kept.view.update({ run, instances: sorted, errors: of("error"), said: of("said"), progress, asked, verdict });
  say(spokenLine, spoken(run, sorted, progress));
}

async function orderOf(dagId) {
  if (!order.has(dagId)) order.set(dagId, await readTasks(dagId));
  return order.get(dagId);
}

function wants(taskId, key, state) {
  if (key === "error") return ["failed", "up_for_retry"].includes(state);
  if (key === "return_value") return isReport(taskId) && ["success", "failed"].includes(state);
  return ["progress", "said"].includes(key) && ["running", "deferred"].includes(state);
}

/** Reads only what is shown and has changed: of a running step what it says, of a failed one why, of the report the verdict. */
async function readValues(run, instances, xcoms, values) {
  // Airflow clears what a task has said when its next try begins.
  const there = new Set(xcoms.map(({ task_id, key }) => `${task_id} ${key}`));
  for (const key of values.keys()) if (!there.has(key)) values.delete(key);
  const states = new Map(instances.map(({ task_id, state }) => [task_id, state]));
  const wanted = xcoms.filter(({ task_id, key, timestamp }) => {
    const state = states.get(task_id);
    return wants(task_id, key, state) && values.get(`${task_id} ${key}`)?.timestamp !== timestamp;
  });
  await Promise.all(wanted.map(async (xcom) => {
    try {
      values.set(`${xcom.task_id} ${xcom.key}`, { timestamp: xcom.timestamp, value: await readXCom(run, xcom) });
    } catch (error) {
      if (error.status !== 404) throw error; // the task has begun anew meanwhile
    }
  }));
}

function nothingToSee() {
  return h("section", { class: "card" }, h("h2", {}, "Nothing to see"),
    h("p", {}, "There is no migration that you may read. Who may read the DAGs ", h("code", {}, MIGRATE), " and ",
      h("code", {}, REHEARSE), " sees here what they do."));
}

function howToBegin() {
  return h("section", { class: "card" }, h("h2", {}, "Nothing has run yet"),
    h("ol", {},
      h("li", {}, "Describe both deployments as ", link(pages.connections(), "connections"), " of type ",
        h("code", {}, "airflow_deployment"), ": ", h("code", {}, "migration_source"), " and ",
        h("code", {}, "migration_target"), ". ", h("em", {}, "Test"), " tells whether they are right."),
      h("li", {}, "Trigger ", link(pages.dag(REHEARSE), REHEARSE),
        ". It works on copies and leaves the source alone; its report says what will happen, and how long it takes."),
      h("li", {}, "When a rehearsal is to your liking, trigger ", link(pages.dag(MIGRATE), MIGRATE),
        ". It shows its plan here and waits for your approval.")));
}

followTheme();
document.getElementById("refresh").addEventListener("click", () => look({ everything: true }));
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") look();
  else clearTimeout(timer);
});
look({ everything: true });
