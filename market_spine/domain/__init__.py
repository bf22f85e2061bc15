"""The pure floor: weeks, tiers, publication rule, sessions, keys, captures, contracts and calculations.

Nothing here opens a file, a connection or a socket, or reads the clock: time is always an argument.
"""
