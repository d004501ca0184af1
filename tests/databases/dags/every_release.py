"""DAGs that Airflow 1.10 to 3.3 can parse; what a release does not have is left out.

Python 3.7 and later. The environment variable REFERENCE says which day is today.
"""

import os
from datetime import datetime, timedelta

import airflow
import pendulum

RELEASE = tuple(int(part) for part in airflow.__version__.split(".")[:2])
REFERENCE = datetime.strptime(os.environ.get("REFERENCE", "2026-01-10"), "%Y-%m-%d")

if RELEASE >= (3, 0):
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.providers.standard.operators.python import PythonOperator
    from airflow.sdk import DAG
elif RELEASE >= (2, 3):
    from airflow import DAG
    from airflow.operators.empty import EmptyOperator
    from airflow.operators.python import PythonOperator
elif RELEASE >= (2, 0):
    from airflow import DAG
    from airflow.operators.dummy import DummyOperator as EmptyOperator
    from airflow.operators.python import PythonOperator
else:
    from airflow import DAG
    from airflow.operators.dummy_operator import DummyOperator as EmptyOperator
    from airflow.operators.python_operator import PythonOperator


def new_dag(dag_id, schedule, days=2, catchup=False, **rest):
    schedule_is = "schedule" if RELEASE >= (2, 4) else "schedule_interval"
    zone = rest.pop("zone", "UTC")
    start = pendulum.timezone(zone).convert(REFERENCE - timedelta(days=days))
    defaults = {"owner": "lab", "retries": 0}
    dag = DAG(dag_id, start_date=start, catchup=catchup, default_args=defaults, **dict(rest, **{schedule_is: schedule}))
    globals()[dag_id] = dag  # before 2.4 no DAG is found without a name of its own
    return dag


def extract():
    return {"rows": 3, "note": "Zürich"}


def count(number):
    return number


def fail():
    raise RuntimeError("as it should")


with new_dag("etl_daily", "@daily", catchup=True):
    PythonOperator(task_id="extract", python_callable=extract) >> EmptyOperator(task_id="load")

with new_dag("every_six_hours", timedelta(hours=6)):
    EmptyOperator(task_id="work")

with new_dag("berlin_nightly", "30 2 * * *", zone="Europe/Berlin"):
    EmptyOperator(task_id="work")

with new_dag("fails_daily", "@daily"):
    PythonOperator(task_id="work", python_callable=fail) >> EmptyOperator(task_id="afterwards")

with new_dag("retries_later", "@once"):
    PythonOperator(task_id="work", python_callable=fail, retries=3, retry_delay=timedelta(days=400))

with new_dag("by_hand", None):
    PythonOperator(task_id="work", python_callable=extract)

with new_dag("asleep", "@daily", days=10):
    PythonOperator(task_id="work", python_callable=extract)

if RELEASE >= (2, 2):
    if RELEASE >= (3, 0):
        from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
    else:
        from airflow.sensors.date_time import DateTimeSensorAsync

    with new_dag("waits_for_2040", "@once"):
        DateTimeSensorAsync(task_id="wait", target_time="2040-01-01T00:00:00+00:00")

if RELEASE >= (2, 3):
    with new_dag("maps", "@once"):
        PythonOperator.partial(task_id="work", python_callable=count).expand(op_args=[[1], [2], [3]])

if RELEASE >= (2, 4):
    if RELEASE >= (3, 0):
        from airflow.sdk import Asset
    else:
        from airflow.datasets import Dataset as Asset

    orders = Asset("s3://lab/orders")
    with new_dag("produces_orders", "@once"):
        EmptyOperator(task_id="work", outlets=[orders])
    with new_dag("consumes_orders", [orders]):
        EmptyOperator(task_id="work")
