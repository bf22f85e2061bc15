"""What the members of answers mean, by name: one word means one thing, in whichever answer it stands.

What belongs here: words that several answers have, or that need no more than a sentence. What does not: members that
mean something of their own; those say so where they stand.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

MEANINGS = {
    "actor": "Who it was: the name of a token, the user of a command, or a part of the platform",
    "added": "What was added",
    "affected_records": "How many records it is about; null where none are counted",
    "after": "The capture that was asked about",
    "attempt_count": "How often it was tried",
    "capture_id": "Names the capture: table, tier, week and the moment when its content became known",
    "captures": "The captures",
    "category": "Where trouble of this kind comes from",
    "certified_at": "When it was certified; null where it is not",
    "certified_by": "Who certified it: automated_check, or a person; null where nobody did",
    "changed_at": "When it happened",
    "code": "What is wrong, in one word",
    "columns": "The columns, in their order",
    "completed_at": "When it was done; null until then",
    "computed_at": "When it was calculated",
    "consumers": "Who had used what was superseded while it was the newest, most often first",
    "created_at": "When it was asked for",
    "data_version": "Names the captures that the answer rests on; null where it rests on none",
    "description": "What it is, with the unit of its values",
    "desired_at": "When it is to be done, at the earliest",
    "details": "What exactly was found; the members depend on the code",
    "detected_at": "When it was found first",
    "document": "Exactly the text that was signed: canonical JSON",
    "domain": "The feed it is about",
    "error_class": "What the last failure was: transient, unavailable, not_yet, schema or refused; null after none",
    "file_bytes": "The size of its file, in bytes",
    "file_sha256": "The sha256 of its file",
    "first_used_at": "The first of these uses",
    "form": "How the answer was written: json, csv, parquet, arrow, or table on a terminal",
    "grain": "The columns by which a row is the only one",
    "held": "What was asked for before and is not done yet",
    "history": "Everything that happened to it, in order",
    "id": "Its number",
    "inputs": "The tables that it is made from",
    "is_in_force": "Whether it is the last word on its week and use",
    "is_ready": "Whether the week may be used for this",
    "issued_at": "When it was issued last",
    "issued_by": "Who issued it last",
    "items": "The rows of the list, in its order",
    "key_id": "The key that signed it: the sha256 of its 32 bytes",
    "kind": "table, view, macro (SQL only) or pipeline",
    "last_error": "What the last attempt failed with; null after none",
    "last_seen_at": "When it was found last",
    "last_used_at": "The last of these uses",
    "max_attempts": "How often it is tried at most",
    "message": "What it is, in a sentence",
    "name": "Its name",
    "next_attempt_at": "When it is tried again; null where it is not",
    "nullable": "Whether it can be without a value",
    "partitions": "The current captures that a change of the asked week reaches",
    "pipeline": "What is run: FEED.PIPELINE",
    "policy": "What became of an earlier capture: versioned, overwrite, skip or merge",
    "ready_for": "The use: trading, compliance or research",
    "request": "What was asked: method, path and parameters as sent, or the command",
    "requested_by": "Who asked for it",
    "resolved_at": "When it was settled; null while it is open",
    "revision": "Counts from 1 for each partition",
    "row_count": "How many rows were sent; null where rows are not counted",
    "rows": "How many rows it has",
    "samples": "Some of the records that it is about",
    "severity": "How grave it is: INFO, WARN, ERROR or CRITICAL",
    "stage": "Where on the way it is: INGESTED, NORMALIZED, AGGREGATED or ROLLING; null for what is no table",
    "state": "How it stands",
    "status": "How it is",
    "superseded_at": "When a newer capture took its place; null where an earlier one came back",
    "table": "The SQL name of a table",
    "table_name": "The SQL name of a table or view; '' where it is about none",
    "tables": "The tables that depend on it, in the order of making",
    "times_seen": "How often it was found",
    "token_id": "The token that was used, as spine tokens list has it; null for commands",
    "updated_at": "When it changed last",
    "use_id": "Names the use",
    "used_at": "When it was used",
    "uses": "How many uses",
    "version": "The version of the calculation; null for what is not calculated",
    "via": "Through which door: api or command",
    "views": "Views over these tables, each with those that it reads",
    "weeks_in_window": "How many weeks a row of it is made from",
}


def _explain(schema: dict[str, Any]) -> None:
    for name, told in schema.get("properties", {}).items():
        if "description" not in told:
            told["description"] = MEANINGS[name]  # a word without a meaning is a defect: there is no document then


class Answer(BaseModel):
    """An answer, or a part of one, of which every member is explained."""

    model_config = ConfigDict(json_schema_extra=_explain)
