-- A DAG that is parsed for the first time gives its version to what waits for it, in the parse's own transaction.
CREATE OR REPLACE FUNCTION airflow_migration.give_dag_version() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE task_instance AS ti SET dag_version_id = NEW.id FROM dag_run AS run
     WHERE run.dag_id = NEW.dag_id AND run.state IN ('running', 'queued')
       AND ti.dag_id = run.dag_id AND ti.run_id = run.run_id AND ti.dag_version_id IS NULL
       AND (ti.state IS NULL OR ti.state NOT IN ('success', 'failed', 'skipped', 'upstream_failed', 'removed'));
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    -- A parse must never fail for this; the task instances are then mended by hand, by clearing them.
    RAISE WARNING 'airflow_migration.give_dag_version: %', SQLERRM;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS airflow_migration_give_dag_version ON dag_version;
CREATE TRIGGER airflow_migration_give_dag_version AFTER INSERT ON dag_version
    FOR EACH ROW EXECUTE FUNCTION airflow_migration.give_dag_version();
