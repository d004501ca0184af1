"""Every DAG of the team sales."""

from airflow import DAG  # the name that Airflow's safe mode looks for

import catalogue
import pipelines

for pipeline in catalogue.pipelines("sales"):
    globals()[pipeline.dag_id] = pipelines.build(pipeline)  # type: DAG
