"""The asset graph: partitions, the raw asset per feed, the one calculation factory, checks, calendar, publishing.

What belongs here: what exists and how one step of it runs. What does not: the SQL of calculations and rules about rows
(`domain`, `feeds`, `checks`), when things run (`automation`).
"""
