-- The journal, in the database that it describes. Run again, it brings a journal of an earlier release up to date.
CREATE SCHEMA IF NOT EXISTS airflow_migration;
CREATE TABLE IF NOT EXISTS airflow_migration.migration (
    migration_id text PRIMARY KEY,
    state text NOT NULL,
    target text NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz
);
ALTER TABLE airflow_migration.migration DROP CONSTRAINT IF EXISTS migration_state_check;
ALTER TABLE airflow_migration.migration ADD CONSTRAINT migration_state_check
    CHECK (state IN ('open', 'resumed', 'closed', 'copied', 'rolling_back', 'rolled_back'));
DROP INDEX IF EXISTS airflow_migration.one_open_migration;
CREATE UNIQUE INDEX one_open_migration ON airflow_migration.migration ((true))
    WHERE state IN ('open', 'rolling_back');
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
