"""Measurements against a floor: programs that anyone can run again. Nothing here is imported by the package."""
