"""`localgcl run` and `rate-limit` without click: arguments, slots, signals.

Read `arguments` (the command line), `job` (what is done), `claim` (the slots) and `child` (the
command and its signals).
"""
