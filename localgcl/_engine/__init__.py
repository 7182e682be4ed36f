"""The transactions that decide: who is admitted, who waits, who is next, what is freed.

Read first `transaction` (what an engine must provide), `tables` (what the statements share),
`request` (a request and its outcomes), `decay` (the arithmetic of rates), `window` (that of
windows) and `admission` (whether a request fits, and how it takes its slots). Then read `owners`
(who holds, and how the dead are cleared away), `keys` (of templates), `order` (who waits for whom),
`watchers` (who watches whom, and who is woken), `grant` (the decision on one waiter), `queue` (who
is next) and `release` (what is freed). A request goes through `acquire` (it takes slots at once, or
joins the queue), `at_once` (the short path where nobody waits) and `wait` (how a waiter looks, and
how it leaves). A lease may ask for its `numbers`. Last comes `clients` (the holders behind the
server).
"""
