"""Everything that preflight knows to find, in databases that two releases have written."""

from __future__ import annotations

import math
import pickle
from datetime import date

from tests.integration.metadata.test_repairs import ALL_FAULTS_OF_1_10


def pickled(value: object) -> str:
    return f"'\\x{pickle.dumps(value, protocol=4).hex()}'::bytea"


_CONFS = ", ".join(
    f"({number}, {pickled(value)})"
    for number, value in enumerate([{"a": {1, 2}}, {"a": date(2026, 1, 1)}, {"a": math.nan}, {"a": Exception("x")}], 1)
)
CONFS = f"""
UPDATE dag_run r SET conf = v.conf FROM (VALUES {_CONFS}) v (n, conf),
    (SELECT id, row_number() OVER (ORDER BY id) AS n FROM dag_run WHERE dag_id IS NOT NULL) o
 WHERE o.n = v.n AND o.id = r.id;
"""

# Values of no key are cleared, so they are in rows of their own.
NO_KEY = """
INSERT INTO variable (key, val, is_encrypted) VALUES ('of a lost key', 'gAAAAABhZm9yZ290dGVu' || repeat('x', 80), true);
INSERT INTO connection (conn_id, conn_type, password, is_encrypted)
    VALUES ('of_a_lost_key', 'http', 'gAAAAABhZm9yZ290dGVu' || repeat('x', 80), true);
"""

CHANGED_BY_3_2 = """
INSERT INTO variable (key) VALUES ('bare');
INSERT INTO variable (val) VALUES ('of no key');
UPDATE dag SET is_paused = NULL WHERE dag_id = (SELECT max(dag_id) FROM dag);
UPDATE dag SET is_active = NULL WHERE dag_id = (SELECT max(dag_id) FROM dag);
UPDATE dag SET is_subdag = true WHERE dag_id = (SELECT max(dag_id) FROM dag);
INSERT INTO log (owner) VALUES ('somebody');
"""

OF_1_10 = (
    ALL_FAULTS_OF_1_10
    + CONFS
    + NO_KEY
    + CHANGED_BY_3_2
    + """
INSERT INTO slot_pool (pool) VALUES ('empty');
ALTER TABLE dag_run DROP CONSTRAINT dag_run_dag_id_run_id_key;
ALTER TABLE dag_run DROP CONSTRAINT dag_run_dag_id_execution_date_key;
INSERT INTO dag_run (dag_id, run_id, execution_date, state)
    SELECT dag_id, run_id, execution_date + n * interval '1 hour', state FROM dag_run, generate_series(0, 1) n
     WHERE dag_id = 'nameless' AND run_id IS NOT NULL;
UPDATE task_instance SET max_tries = NULL WHERE task_id = 'kept';
ALTER TABLE task_reschedule RENAME CONSTRAINT task_reschedule_dag_task_date_fkey TO by_hand;
DROP INDEX idx_task_fail_dag_task_date;
CREATE INDEX idx_log_dttm ON log (dttm);
INSERT INTO ab_register_user (id, first_name, last_name, username, email)
    SELECT n, '', '', 'new ' || n, 'same' FROM generate_series(1, 2) n;
INSERT INTO ab_permission_view (id) VALUES (9001);
INSERT INTO dag_code (fileloc_hash, fileloc, source_code, last_updated)
    SELECT -1, '/dags/copy.py', 'with DAG(' || chr(10) || ' dag_id="' || min(dag_id) || '",', now() FROM dag;
INSERT INTO dag_pickle (pickle, pickle_hash) VALUES ('\\x80', 7);
SET session_replication_role = replica;
INSERT INTO ab_user_role (id, user_id, role_id) VALUES (9001, -1, -1);
INSERT INTO ab_permission_view_role (id, permission_view_id, role_id) VALUES (9002, -1, -1);
SET session_replication_role = origin;
CREATE TABLE celery_taskmeta (id int PRIMARY KEY, task_id text, result bytea);
INSERT INTO celery_taskmeta SELECT n, 'task ' || n, '\\x80' FROM generate_series(1, 5) n;
CREATE TABLE "Notes of ours" (id serial PRIMARY KEY, note text);
INSERT INTO "Notes of ours" (note) VALUES ('kept');
"""
)

OF_2_10 = (
    CONFS
    + NO_KEY
    + CHANGED_BY_3_2
    + """
INSERT INTO slot_pool (pool, include_deferred) VALUES ('empty', false);
UPDATE task_instance SET max_tries = NULL WHERE ctid = (SELECT ctid FROM task_instance LIMIT 1);
INSERT INTO dataset (id, uri, extra, created_at, updated_at) VALUES (901, repeat('x', 1501), '{}', now(), now());
INSERT INTO dataset (id, uri, extra, created_at, updated_at)
    SELECT 902, string_agg(md5(n::text), ''), '{}', now(), now() FROM generate_series(1, 44) n;
INSERT INTO dag_schedule_dataset_reference (dataset_id, dag_id, created_at, updated_at)
    SELECT 901, min(dag_id), now(), now() FROM dag;
INSERT INTO dataset_alias (id, name) VALUES (901, repeat('x', 1501));
INSERT INTO xcom (key, value, timestamp, dag_id, task_id, run_id, map_index, dag_run_id)
    SELECT v.key, v.value, now(), t.dag_id, t.task_id, t.run_id, t.map_index, r.id
      FROM (SELECT * FROM task_instance LIMIT 1) t JOIN dag_run r USING (dag_id, run_id),
           (VALUES ('empty', ''::bytea), ('latin', '\\xff41'), ('nan', '[NaN]'), ('words', 'hello'),
                   ('nul', convert_to('"a\\u0000b"', 'UTF8')), ('pickle', '\\x80024b012e')) v (key, value);
DROP INDEX idx_log_dag;
ALTER TABLE dag_run_note RENAME CONSTRAINT dag_run_note_user_fkey TO by_hand;
CREATE INDEX idx_dag_run_run_after ON dag_run (state);
CREATE TABLE _xcom_archive (other int);
INSERT INTO _xcom_archive VALUES (1);
SELECT setval('log_id_seq', 1, false);
ALTER TABLE ab_register_user DROP CONSTRAINT IF EXISTS ab_register_user_email_uq;
INSERT INTO ab_register_user (id, first_name, last_name, username, email)
    SELECT n, '', '', 'new ' || n, 'same' FROM generate_series(1, 2) n;
INSERT INTO ab_permission_view (id) VALUES (9001);
INSERT INTO ab_permission_view_role (id, permission_view_id) VALUES (9001, 9001);
INSERT INTO dag_pickle (pickle, pickle_hash) VALUES ('\\x80', 7);
INSERT INTO task_fail (task_id, dag_id, run_id, map_index, duration)
    SELECT task_id, dag_id, run_id, map_index, n FROM task_instance, generate_series(1, 2) n;
UPDATE serialized_dag SET fileloc = '/dags/another.py' WHERE dag_id = (SELECT min(dag_id) FROM serialized_dag);
SET session_replication_role = replica;
INSERT INTO task_instance (dag_id, task_id, run_id, map_index, pool, pool_slots)
    VALUES ('d', 'of no run', 'gone', -1, 'default_pool', 1);
INSERT INTO task_instance_history (task_id, dag_id, run_id, map_index, try_number, pool, pool_slots)
    VALUES ('nobody', 'd', 'r', -1, 1, 'default_pool', 1);
INSERT INTO task_instance_note (task_id, dag_id, run_id, map_index, created_at, updated_at)
    VALUES ('nobody', 'd', 'r', -1, now(), now());
INSERT INTO task_map (dag_id, task_id, run_id, map_index, length) VALUES ('d', 'nobody', 'r', -1, 1);
INSERT INTO task_fail (dag_id, task_id, run_id, map_index) VALUES ('d', 'nobody', 'r', -1);
INSERT INTO rendered_task_instance_fields (dag_id, task_id, run_id, map_index, rendered_fields)
    VALUES ('d', 'nobody', 'r', -1, '{}');
INSERT INTO task_reschedule (dag_id, task_id, run_id, map_index, try_number, start_date, end_date, duration,
    reschedule_date) VALUES ('d', 'nobody', 'r', -1, 1, now(), now(), 1, now());
INSERT INTO xcom (dag_run_id, dag_id, task_id, run_id, map_index, key, timestamp)
    VALUES (-1, 'd', 'nobody', 'r', -1, 'k', now());
INSERT INTO dag_schedule_dataset_reference VALUES (-1, 'gone', now(), now());
INSERT INTO dag_schedule_dataset_alias_reference VALUES (-1, 'gone', now(), now());
INSERT INTO task_outlet_dataset_reference VALUES (-1, 'gone', 't', now(), now());
INSERT INTO dataset_dag_run_queue VALUES (-1, 'gone', now());
INSERT INTO dataset_alias_dataset VALUES (-1, -1);
INSERT INTO dataset_alias_dataset_event VALUES (-1, -1);
INSERT INTO dagrun_dataset_event VALUES (-1, -1);
INSERT INTO ab_user_role (id, user_id, role_id) VALUES (9001, -1, -1);
SET session_replication_role = origin;
CREATE TABLE "Notes of ours" (id serial PRIMARY KEY, note text);
INSERT INTO "Notes of ours" (note) VALUES ('kept');
"""
)

EVERY_FAULT = {"1.10.15": OF_1_10, "2.10.5": OF_2_10}
