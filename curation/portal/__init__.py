"""The auditor's portal: pages to read, in English and Chinese, without scripts; mounted by the Airflow plugin and by `curation serve`."""
