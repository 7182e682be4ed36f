"""The transactions that decide: who is admitted, who waits, who is next, what is freed.

Read `request` (what is asked and what comes of it), `decay` (the arithmetic of rates), `queue`
(who is next), `acquire`, `at_once` (the short way where nobody waits) and `release`; then
`owners` (who holds, and what the dead leave) and `clients` (who holds through the server).
"""
