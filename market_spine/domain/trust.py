"""The words of the business record: what changes an anomaly, how ready a week is, what becomes of a certificate.

What belongs here: closed sets of words that the control tables hold to. What does not: severities and categories, which
checks declare too (`contracts`), and whatever decides with these words (`governance`).
"""

from __future__ import annotations

from enum import StrEnum


class AnomalyChange(StrEnum):
    """What happened to an anomaly; each is a row of core_anomaly_log."""

    OPENED = "opened"
    SEEN = "seen"  # found again, unchanged
    CHANGED = "changed"  # found again with another severity, message or cause
    RESOLVED = "resolved"


class Readiness(StrEnum):
    """How far a week is from use."""

    MISSING = "MISSING"  # a partition that the use case needs is not there
    BLOCKED = "BLOCKED"  # all are there; a stage, a CRITICAL anomaly or a stale capture stands against it
    PRELIMINARY = "PRELIMINARY"  # nothing stands against it but its age
    CERTIFIED = "CERTIFIED"


class CertificateEvent(StrEnum):
    """What happened to a certificate; each is a link of the chain core_certificate_log."""

    ISSUED = "issued"
    SUPERSEDED = "superseded"


class ScheduleType(StrEnum):
    """How often something is expected."""

    WEEKLY = "WEEKLY"
    DAILY = "DAILY"
    MONTHLY = "MONTHLY"
    ANNUAL = "ANNUAL"
