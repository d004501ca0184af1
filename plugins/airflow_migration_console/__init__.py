"""The page "Migrations" in the Airflow UI: what runs, what waits for a person, what failed, what rehearsals said."""
