#!/usr/bin/env bash
# Counts the instructions of one call's share of a tick, and of parsing an INVITE, under valgrind
# (the same on every run, whatever else the machine does) and holds them against benches/budget.
# A change that costs more than the budget fails; one that saves a lot should lower it.
set -euo pipefail
cd "$(dirname "$0")/.."

binary=$(cargo bench --locked --bench instructions --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*instructions-[^"]*\)".*/\1/p' | tail -1)
[ -x "$binary" ] || { echo "the benchmark 'instructions' could not be built" >&2; exit 1; }

count() { # what rounds
    local out
    out=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$1" "$2" 2>&1)
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p' <<<"$out"
}

failed=0
while read -r what rounds per budget; do
    [[ $what == \#* || -z $what ]] && continue
    few=$(count "$what" "$rounds")
    many=$(count "$what" $((2 * rounds)))
    each=$(((many - few) / rounds / per))
    if ((each > budget)); then
        echo "OVER BUDGET $what: $each instructions, the budget is $budget"
        failed=1
    else
        echo "ok $what: $each instructions of a budget of $budget"
    fi
done <benches/budget
exit $failed
