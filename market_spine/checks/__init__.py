"""Judging rows: pandera schemas made from column lists, invariants, gates. Pure: tables in, findings out.

What belongs here: deciding whether a check holds. What does not: recording findings (`store`), Dagster's check events
(`assets`), rules that belong to one feed (`feeds`).
"""
