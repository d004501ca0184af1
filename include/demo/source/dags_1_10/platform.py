"""Every DAG of the team platform."""

from airflow import DAG  # the name that Airflow's safe mode looks for

import catalogue
import pipelines

for pipeline in catalogue.pipelines("platform"):
    globals()[pipeline.dag_id] = pipelines.build(pipeline)  # type: DAG
