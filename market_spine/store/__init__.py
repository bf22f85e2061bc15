"""Captures, manifest, control tables, relations: the only floor that knows Parquet paths, SQLAlchemy and DuckDB.

What belongs here: writing and finding versions, and the machinery to keep them (verify, gc, publish, migrations).
What does not: what is calculated (`domain.calculations`), where bytes come from (`sources`), when things run.
"""
