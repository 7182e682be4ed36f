"""How cost grows with limits, leases, waiters and processes."""
