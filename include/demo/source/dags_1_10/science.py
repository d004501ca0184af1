"""Every DAG of the team science."""

from airflow import DAG  # the name that Airflow's safe mode looks for

import catalogue
import pipelines

for pipeline in catalogue.pipelines("science"):
    globals()[pipeline.dag_id] = pipelines.build(pipeline)  # type: DAG
