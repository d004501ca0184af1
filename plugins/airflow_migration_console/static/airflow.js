// Asks Airflow's own REST API with the user's cookie: what that API does not let a user see is not seen here.

export const MIGRATE = "migrate_airflow";
export const REHEARSE = "rehearse_migration";
export const ROLL_BACK = "roll_back_migration";
export const DAGS = [MIGRATE, REHEARSE, ROLL_BACK];
export const PAGE = 100; // [api] maximum_page_limit, unless it was changed

const HERE = new URL("..", import.meta.url); // …/migrations/
const AIRFLOW = new URL("..", HERE);

export class Refusal extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function ask(path, query = {}, options = {}) {
  const url = new URL(`api/v2/${path}`, AIRFLOW);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  const headers = { Accept: "application/json", ...(options.body && { "Content-Type": "application/json" }) };
  const answer = await fetch(url, { credentials: "same-origin", cache: "no-store", ...options, headers });
  const text = await answer.text();
  if (answer.ok) return text ? JSON.parse(text) : null;
  throw new Refusal(answer.status, detailOf(text) || answer.statusText);
}

/** What is answered, or something else where the API refuses with one of these statuses. */
export const optional = (promise, otherwise, ...statuses) =>
  promise.catch((error) => {
    if (statuses.includes(error.status)) return otherwise;
    throw error;
  });

function detailOf(text) {
  try {
    const { detail } = JSON.parse(text);
    return typeof detail === "string" ? detail : "";
  } catch {
    return ""; // a proxy's page
  }
}

/** Tells a run from all others. */
export const keyOf = ({ dag_id, dag_run_id }) => `${dag_id} ${dag_run_id}`;

const part = encodeURIComponent;
const runPath = ({ dag_id, dag_run_id }) => `dags/${part(dag_id)}/dagRuns/${part(dag_run_id)}`;

/** The newest runs of our DAGs, of those that the user may read. */
export const readRuns = (offset = 0) =>
  ask("dags/~/dagRuns/list", {}, {
    method: "POST",
    body: JSON.stringify({ dag_ids: DAGS, order_by: "-run_after", page_limit: PAGE, page_offset: offset }),
  });

export const readDag = (dagId) => ask(`dags/${part(dagId)}`);

export const readRun = (run) => ask(runPath(run));

/** What each successful rehearsal said, newest first. */
export const readRehearsals = (offset = 0) =>
  ask("assets/events", { source_dag_id: REHEARSE, order_by: "-timestamp", limit: PAGE, offset });

export const readTasks = (dagId) => ask(`dags/${part(dagId)}/tasks`).then(({ tasks }) => tasks);

export const readTaskInstances = (run) =>
  ask(`${runPath(run)}/taskInstances`, { limit: PAGE }).then(({ task_instances }) => task_instances);

/** Which XComs there are, without their values, newest first. */
export const readXComs = (run) =>
  ask(`${runPath(run)}/taskInstances/~/xcomEntries`, { limit: PAGE, order_by: "-timestamp" }).then(
    ({ xcom_entries }) => xcom_entries,
  );

export const readXCom = (run, { task_id, key }) =>
  ask(`${runPath(run)}/taskInstances/${part(task_id)}/xcomEntries/${part(key)}`).then(({ value }) =>
    typeof value === "string" ? parsed(value) : value,
  );

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** What a person is asked now. */
export const readQuestions = (run) =>
  ask(`${runPath(run)}/hitlDetails`, { response_received: false }).then(({ hitl_details }) => hitl_details);

export const answer = (run, { task_instance: { task_id, map_index } }, option) =>
  ask(`${runPath(run)}/taskInstances/${part(task_id)}/${map_index}/hitlDetails`, {}, {
    method: "PATCH",
    body: JSON.stringify({ chosen_options: [option], params_input: {} }),
  });

export const pages = {
  dag: (dagId) => new URL(`dags/${part(dagId)}`, AIRFLOW).href,
  run: ({ dag_id, dag_run_id }) => new URL(`dags/${part(dag_id)}/runs/${part(dag_run_id)}`, AIRFLOW).href,
  task: (run, taskId) => `${pages.run(run)}/tasks/${part(taskId)}`,
  questions: (run) => `${pages.run(run)}/required_actions`,
  report: ({ dag_id, dag_run_id }) => new URL(`reports/${part(dag_id)}/${part(dag_run_id)}`, HERE).href,
  connections: () => new URL("connections", AIRFLOW).href,
  login: () => new URL(`api/v2/auth/login?next=${part(AIRFLOW.pathname)}`, AIRFLOW).href,
};
