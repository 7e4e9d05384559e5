"""A real Airflow beside the emulator of the three batch APIs: for `make demo` and for the tests."""
