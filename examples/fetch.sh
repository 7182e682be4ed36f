#!/bin/sh
# Fetch the addresses on standard input, at the rate of the limit "api" at most, which all copies of
# this script and everything else that uses the limit share. It is made once:
#
#     localgcl create api --limit 10 --slot-decay-per-second 2
#
# Several at a time, and still at that rate together:
#
#     xargs -P 8 -n 1 sh -c 'localgcl rate-limit api && exec curl -fsS "$1"' sh < addresses
set -eu

while read -r address; do
    localgcl rate-limit --timeout 60 api || {
        echo "gave up on $address" >&2
        exit 75
    }
    curl -fsS "$address" </dev/null
done
