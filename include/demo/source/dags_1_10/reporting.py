"""Every DAG of the team reporting."""

from airflow import DAG  # the name that Airflow's safe mode looks for

import catalogue
import pipelines

for pipeline in catalogue.pipelines("reporting"):
    globals()[pipeline.dag_id] = pipelines.build(pipeline)  # type: DAG
