"""Bytes in: where deliveries come from (FINRA's API, files, the synthetic generator) and where they land.

What belongs here: fetching, naming, decoding, landing. What does not: captures and control tables (`store`), rules
about rows (`feeds`, `checks`).
"""
