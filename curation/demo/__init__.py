"""The main job end to end, on rendered or real clips, under a real Airflow."""
