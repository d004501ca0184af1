-- The journal, in the database that it describes.
CREATE SCHEMA IF NOT EXISTS airflow_migration;
CREATE TABLE IF NOT EXISTS airflow_migration.migration (
    migration_id text PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('open', 'resumed', 'closed', 'copied')),
    target text NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz
);
CREATE UNIQUE INDEX IF NOT EXISTS one_open_migration ON airflow_migration.migration ((true)) WHERE state = 'open';
CREATE TABLE IF NOT EXISTS airflow_migration.paused_dag (
    migration_id text NOT NULL REFERENCES airflow_migration.migration,
    dag_id text NOT NULL,
    was_paused boolean,
    PRIMARY KEY (migration_id, dag_id)
);
CREATE TABLE IF NOT EXISTS airflow_migration.act (
    migration_id text NOT NULL REFERENCES airflow_migration.migration,
    act text NOT NULL,
    detail jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (migration_id, act)
);
