"""What holds whatever happens: the endurance run witnesses it, and the mutants break it."""

TRUTHS = {
    0: "the run itself went wrong",
    1: "never more slots in use than the limit has",
    2: "no slot is lost with the process that had it",
    3: "no slot is taken from a process that lives",
    4: "first come, first served",
    5: "several limits at one moment or not at all",
    6: "exactly the rate",
    7: "woken, not polling",
    8: "shown as it is",
    9: "one answer to each request, and nothing left behind",
    10: "whatever fails admits nobody",
}
