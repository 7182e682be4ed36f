"""The transactions that decide: who is admitted, who waits, who is next, what is freed.

Read `transaction` (what an engine must provide), `tables` (what the statements share), `request`
(what is asked and what comes of it), `decay` (the arithmetic of rates) and `admission` (whether a
request fits, and taking what it asks for). Then `owners` (who holds, and what the dead leave),
`watchers` (who watches whom, and who is woken), `grant` (deciding on one waiter), `queue` (who is
next) and `release` (what is freed). A request goes through `acquire` (slots at once, or a place in
the queue), `at_once` (the short way where nobody waits) and `wait` (how it looks and how it
leaves). At last `clients` (who holds through the server).
"""
