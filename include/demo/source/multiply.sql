-- Finished runs that the scheduler made, again, whole blocks earlier. Expects the temporary table
-- history (dag_id text, block interval, period interval, copies int) and the time zone UTC.
CREATE TEMP TABLE copied ON COMMIT DROP AS
SELECT r.id, r.dag_id, r.execution_date AS was, r.start_date AS was_started, r.end_date AS was_ended, r.state,
       r.execution_date - h.block * k AS now,
       r.execution_date - h.block * k + h.period + random() * interval '9 s' AS started,
       regexp_replace(r.run_id, '[0-9]{4}-.*$', '') AS prefix
FROM dag_run r
JOIN history h USING (dag_id)
CROSS JOIN LATERAL generate_series(1, h.copies) AS k
WHERE r.state IN ('success', 'failed')
  AND (r.run_id LIKE 'scheduled\_\_%' OR position('.' IN r.dag_id) > 0)
  AND r.execution_date > (SELECT max(execution_date) FROM dag_run n
                          WHERE n.dag_id = r.dag_id AND NOT n.external_trigger AND n.state IN ('success', 'failed')) - h.block;

INSERT INTO dag_run (dag_id, execution_date, state, run_id, external_trigger, start_date, end_date)
SELECT dag_id, now, state, prefix || to_char(now, 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"'), false,
       started, started + (was_ended - was_started)
FROM copied
ORDER BY now, dag_id;

INSERT INTO task_instance (task_id, dag_id, execution_date, start_date, end_date, duration, state, try_number, hostname,
                           unixname, pool, queue, priority_weight, operator, queued_dttm, pid, max_tries,
                           executor_config, pool_slots)
SELECT t.task_id, t.dag_id, c.now, c.started + (t.start_date - c.was_started),
       c.started + (t.start_date - c.was_started) + t.duration * f.factor * interval '1 s', t.duration * f.factor,
       t.state, t.try_number, t.hostname, t.unixname, t.pool, t.queue, t.priority_weight, t.operator,
       c.started + (t.queued_dttm - c.was_started), t.pid, t.max_tries, t.executor_config, t.pool_slots
FROM copied c
JOIN task_instance t ON t.dag_id = c.dag_id AND t.execution_date = c.was
CROSS JOIN LATERAL (SELECT round((0.6 + 0.4 * random() + 0 * c.id)::numeric, 2)::float8 AS factor) f
ORDER BY c.now, t.dag_id, t.task_id;

INSERT INTO xcom (key, value, timestamp, execution_date, task_id, dag_id)
SELECT x.key, x.value, c.started + (x.timestamp - c.was_started), c.now, x.task_id, x.dag_id
FROM copied c
JOIN xcom x ON x.dag_id = c.dag_id AND x.execution_date = c.was
ORDER BY c.now, x.dag_id, x.task_id, x.key;

INSERT INTO task_fail (task_id, dag_id, execution_date, start_date, end_date, duration)
SELECT f.task_id, f.dag_id, c.now, c.started + (f.start_date - c.was_started),
       c.started + (f.end_date - c.was_started), f.duration
FROM copied c
JOIN task_fail f ON f.dag_id = c.dag_id AND f.execution_date = c.was
ORDER BY c.now, f.dag_id, f.task_id, f.id;

INSERT INTO task_reschedule (task_id, dag_id, execution_date, try_number, start_date, end_date, duration,
                             reschedule_date)
SELECT s.task_id, s.dag_id, c.now, s.try_number, c.started + (s.start_date - c.was_started),
       c.started + (s.end_date - c.was_started), s.duration, c.started + (s.reschedule_date - c.was_started)
FROM copied c
JOIN task_reschedule s ON s.dag_id = c.dag_id AND s.execution_date = c.was
ORDER BY c.now, s.dag_id, s.task_id, s.id;
