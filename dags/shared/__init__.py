"""What the DAG files share. Airflow puts the DAG folder on the path, so they import it as `shared`."""
