"""The REST API: programs get the same answers as people, with the version of the data in each, and every use on record.

What belongs here: HTTP. What does not: rules and SQL; a route asks the floors below, as a command does.
"""
