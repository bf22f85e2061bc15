"""The business record: anomalies, readiness and certificates, expectations, staleness and impact.

What belongs here: what the platform says about its data, and why. What does not: Dagster's objects (`assets`,
`automation`), SQL and control tables (`store`), judging rows (`checks`).
"""
