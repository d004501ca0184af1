"""Turns a row of the catalogue into a DAG of Airflow 1.10.

``DEMO_REFERENCE`` is the moment the history is made for. While ``DEMO_HISTORY`` is ``short`` every DAG starts only
a few intervals before it, so that the scheduler makes each kind of run within minutes; afterwards the DAGs are
parsed once more with the start dates that the whole history has.
"""

import os
import random
from datetime import datetime, timedelta
from decimal import Decimal
from zlib import crc32

from airflow import DAG
from airflow.contrib.sensors.python_sensor import PythonSensor
from airflow.operators.bash_operator import BashOperator
from airflow.operators.dagrun_operator import TriggerDagRunOperator
from airflow.operators.dummy_operator import DummyOperator
from airflow.operators.python_operator import BranchPythonOperator, PythonOperator, ShortCircuitOperator
from airflow.operators.subdag_operator import SubDagOperator
from airflow.utils.timezone import utc

import catalogue

REFERENCE = datetime.strptime(os.environ["DEMO_REFERENCE"], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=utc)
SHORT = os.environ["DEMO_HISTORY"] == "short"
MIDNIGHT = REFERENCE.replace(hour=0, minute=0, second=0)
YESTERDAY = (MIDNIGHT - timedelta(days=1)).strftime("%Y-%m-%d")


def chance(context, one_in):
    """The same answer for the same task and date, so that a second making resembles the first."""
    name = "{}.{}.{}".format(context["dag"].dag_id, context["task"].task_id, context["ts"])
    return crc32(name.encode()) % one_in == 0


def extract(**context):
    rows = crc32(context["ts"].encode()) % 90000
    print("read", rows, "rows from", context["dag"].dag_id)
    return {"rows": rows, "until": context["execution_date"].isoformat(), "tables": ["header", "lines"]}


def transform(**context):
    if chance(context, 11) or (context["ti"].try_number == 1 and chance(context, 7)):
        raise ValueError("the numbers do not add up")
    rows = (context["ti"].xcom_pull(task_ids="extract") or {}).get("rows", 0)
    context["ti"].xcom_push(key="watermark", value=datetime(2026, 1, 1) + timedelta(seconds=rows))
    context["ti"].xcom_push(key="regions", value={"north", "south", "Übersee"})
    return rows * 2


def check(**context):
    if chance(context, 13):
        raise ValueError("too many empty values")
    return Decimal("99.25")


def decide(**context):
    return "full_load" if context["execution_date"].hour % 5 == 0 else "delta_load"


def train(**context):
    return {"auc": 0.5 + crc32(context["ts"].encode()) % 400 / 1000, "blob": os.urandom(12), "seed": (4, 2)}


def good_enough(**context):
    return context["ti"].xcom_pull(task_ids="train")["auc"] > 0.6


def settle(**context):
    if context["ds"] == YESTERDAY:
        raise RuntimeError("the bank has not delivered yet")
    return context["ds"]


def arrived():
    return random.random() > 0.5


def build_etl(dag):
    done = DummyOperator(task_id="done", dag=dag)
    (
        PythonOperator(task_id="extract", python_callable=extract, provide_context=True, dag=dag)
        >> PythonOperator(task_id="transform", python_callable=transform, provide_context=True, pool="warehouse", dag=dag)
        >> BashOperator(
            task_id="load",
            bash_command="echo loading {{ ti.xcom_pull(task_ids='transform') }} rows of {{ ds }} && echo {{ run_id }}",
            xcom_push=True,
            dag=dag,
        )
        >> done
    )


def build_ledger(dag):
    (
        PythonOperator(task_id="extract", python_callable=extract, provide_context=True, dag=dag)
        >> PythonOperator(
            task_id="settle",
            python_callable=settle,
            provide_context=True,
            retries=5,
            retry_delay=timedelta(hours=4),
            pool="warehouse",
            dag=dag,
        )
        >> [DummyOperator(task_id="post", dag=dag), DummyOperator(task_id="archive", dag=dag)]
    )


def build_branch(dag):
    branch = BranchPythonOperator(task_id="decide", python_callable=decide, provide_context=True, dag=dag)
    join = DummyOperator(task_id="join", trigger_rule="none_failed", dag=dag)
    branch >> BashOperator(task_id="full_load", bash_command="echo full {{ ds }}", dag=dag) >> join
    branch >> BashOperator(task_id="delta_load", bash_command="echo delta {{ ts }}", dag=dag) >> join


def build_quality(dag):
    checks = [
        PythonOperator(task_id=name, python_callable=check, provide_context=True, sla=timedelta(minutes=5), dag=dag)
        for name in ("freshness", "row_counts")
    ]
    checks >> PythonOperator(task_id="totals", python_callable=check, provide_context=True, dag=dag) >> DummyOperator(
        task_id="publish", dag=dag
    )


def build_model(dag):
    (
        PythonOperator(task_id="features", python_callable=extract, provide_context=True, dag=dag)
        >> PythonOperator(task_id="train", python_callable=train, provide_context=True, pool="gpu", dag=dag)
        >> DummyOperator(task_id="evaluate", dag=dag)
        >> ShortCircuitOperator(task_id="good_enough", python_callable=good_enough, provide_context=True, dag=dag)
        >> DummyOperator(task_id="deploy", dag=dag)
    )


def build_short(dag):
    BashOperator(task_id="work", bash_command="echo {{ var.value.environment }} {{ ds_nodash }}", dag=dag) >> DummyOperator(
        task_id="done", dag=dag
    )


def build_sensor(dag):
    (
        # A shorter interval lets the scheduler queue it again before it has read the executor's last word on it.
        PythonSensor(
            task_id="wait",
            python_callable=arrived,
            mode="reschedule",
            poke_interval=20,
            timeout=600,
            retries=0,
            pool="sensors",
            dag=dag,
        )
        >> PythonOperator(task_id="extract", python_callable=extract, provide_context=True, dag=dag)
        >> DummyOperator(task_id="archive", dag=dag)
    )


def build_subdag(dag):
    inner = DAG(catalogue.SUBDAG, schedule_interval=dag.schedule_interval, default_args=dag.default_args)
    BashOperator(task_id="partition_a", bash_command="echo a {{ ds }}", dag=inner)
    DummyOperator(task_id="partition_b", dag=inner)
    start = PythonOperator(task_id="extract", python_callable=extract, provide_context=True, dag=dag)
    start >> SubDagOperator(task_id="partitions", subdag=inner, dag=dag) >> DummyOperator(task_id="done", dag=dag)


def build_trigger(dag):
    def with_payload(context, run):
        run.payload = {"index": "products", "since": context["ds"], "shards": [1, 2, 3]}
        return run

    (
        BashOperator(task_id="tag", bash_command="echo release {{ ds }}", dag=dag)
        >> TriggerDagRunOperator(
            task_id="reindex", trigger_dag_id="platform_reindex_search", python_callable=with_payload, dag=dag
        )
    )


def build_manual(dag):
    (
        BashOperator(task_id="prepare", bash_command="echo {{ dag_run.conf }}", dag=dag)
        >> PythonOperator(task_id="extract", python_callable=extract, provide_context=True, dag=dag)
        >> DummyOperator(task_id="done", dag=dag)
    )


def first_start(pipeline):
    """When the DAG begins: with its whole history, or just before the reference."""
    period, runs = pipeline.history
    if period is None:
        return MIDNIGHT - timedelta(days=90)
    if not SHORT:
        return MIDNIGHT - period * (runs + 4)
    if str(pipeline.schedule).endswith("1-5"):
        return MIDNIGHT - timedelta(days=8)
    if period >= timedelta(days=7):
        return MIDNIGHT - period - timedelta(days=6 if period == timedelta(days=7) else 31)
    recent = REFERENCE.replace(minute=0, second=0) - period * 2
    return recent if period < timedelta(hours=6) else MIDNIGHT - timedelta(days=2 if period >= timedelta(days=1) else 1)


def build(pipeline):
    """One DAG."""
    dag = DAG(
        pipeline.dag_id,
        schedule_interval=pipeline.schedule,
        start_date=first_start(pipeline),
        catchup=SHORT or pipeline.catchup,
        tags=pipeline.tags,
        default_args={
            "owner": pipeline.owner,
            "retries": 1,
            "retry_delay": timedelta(seconds=1),
            "start_date": first_start(pipeline),
        },
        description="{} of {}".format(pipeline.shape, pipeline.team),
    )
    globals()["build_" + pipeline.shape](dag)
    return dag
