-- Run once, when the volume is new. Both keep their schema's version in a table of one name, so each has its own database.
CREATE DATABASE dagster OWNER market_spine;
