"""Everything that this package knows of Airflow, besides the operators, sensors, hooks and the trigger themselves; private.

Its modules are imported by their full name, so `import airflow` means Apache Airflow here as everywhere.
"""
