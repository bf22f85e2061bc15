"""Market Spine: FINRA weekly OTC/ATS transparency data as captured, checked, replayable Dagster assets."""

__version__ = "0.1.0"
