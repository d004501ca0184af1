# The control Airflow's image: any image of Airflow 3.1 or newer, and this package in it.
#
# pg_dump and pg_restore must not be older than the source's server. The official images have the newest of their
# day; for a newer server install its client here, or name its folder in [airflow_migration] postgres_bin_path.
ARG AIRFLOW_IMAGE=apache/airflow:3.3.2-python3.12
FROM ${AIRFLOW_IMAGE}
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
COPY . /opt/airflow-provider-migration
# Airflow itself stays as the image has it.
RUN pip install --no-cache-dir /opt/airflow-provider-migration \
    "apache-airflow==$(python -c 'from importlib.metadata import version; print(version("apache-airflow"))')"
# Volumes that are mounted here take over the owner.
RUN cd /opt/airflow && mkdir -p secrets logs migration/runtimes migration/dumps migration/reports \
    && chmod 700 secrets migration/dumps
