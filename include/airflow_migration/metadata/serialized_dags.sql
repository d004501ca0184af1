-- What scheduling needs of each DAG's latest serialized version; {compressed} is a column or NULL.
WITH latest AS MATERIALIZED (
    SELECT DISTINCT ON (dag_id) dag_id, ctid AS place FROM serialized_dag ORDER BY dag_id, last_updated DESC
), content AS (
    SELECT s.dag_id, (s.data::jsonb) -> 'dag' AS dag, CASE WHEN s.data IS NULL THEN {compressed} END AS packed
      FROM latest JOIN serialized_dag AS s ON s.ctid = latest.place
)
SELECT dag_id, packed, jsonb_build_object(
    'timetable', coalesce(dag -> 'timetable', dag -> 'schedule_interval'),
    'timezone', dag -> 'timezone', 'catchup', dag -> 'catchup', 'max_active_runs', dag -> 'max_active_runs',
    'start_date', dag -> 'start_date', 'end_date', dag -> 'end_date',
    'tasks', (SELECT jsonb_agg(DISTINCT jsonb_build_object(
            'start_date', coalesce(task -> '__var', task) -> 'start_date',
            'end_date', coalesce(task -> '__var', task) -> 'end_date'))
        FROM jsonb_array_elements(CASE jsonb_typeof(dag -> 'tasks') WHEN 'array' THEN dag -> 'tasks' ELSE '[]' END) AS task)
) FROM content
