-- What years of use leave behind and a day of making cannot.

-- Connections from before the form asked for a type, and one id given twice: 1.10's table forbids neither.
UPDATE connection SET conn_type = NULL WHERE conn_id IN ('bigquery_reports', 'partner_drop');
UPDATE connection SET conn_id = 'reporting_replica' WHERE conn_id = 'reporting_replica_b';

-- Task instances from before 1.10.4, which added the column without filling it.
UPDATE task_instance SET pool_slots = NULL
WHERE (task_id, dag_id, execution_date) IN (
    SELECT task_id, dag_id, execution_date FROM task_instance ORDER BY execution_date, dag_id, task_id LIMIT 1500);

-- Browse > DAG Runs > Delete: takes the run, leaves its task instances.
DELETE FROM dag_run
WHERE id IN (SELECT id FROM dag_run WHERE dag_id IN ('reporting_funnel', 'sales_returns') AND run_id LIKE 'scheduled%'
             ORDER BY execution_date LIMIT 8);

-- Browse > Task Instances > Delete: takes the row, leaves its XComs, failures and rendered fields.
DELETE FROM task_instance
WHERE (task_id, dag_id, execution_date) IN (
    SELECT DISTINCT task_id, dag_id, execution_date FROM task_fail f
    JOIN dag_run r USING (dag_id, execution_date) WHERE r.state <> 'running'
    ORDER BY execution_date, dag_id, task_id LIMIT 12);
DELETE FROM task_instance
WHERE (task_id, dag_id, execution_date) IN (
    SELECT t.task_id, t.dag_id, t.execution_date FROM task_instance t
    JOIN rendered_task_instance_fields USING (task_id, dag_id, execution_date)
    JOIN xcom USING (task_id, dag_id, execution_date)
    WHERE t.state = 'success' AND t.task_id = 'load' ORDER BY t.dag_id, t.execution_date LIMIT 10);
