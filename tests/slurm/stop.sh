#!/usr/bin/env bash
# End the cluster that start.sh started, its jobs first, and nothing else.
#
#   tests/slurm/stop.sh [--purge]      --purge removes its state and logs too, not the packages
set -euo pipefail
# shellcheck source=tests/slurm/daemons.sh
. "$(dirname "${BASH_SOURCE[0]}")/daemons.sh"

[ "$(id -u)" = 0 ] || fail "needs root"

queue() { timeout 20 squeue -h -t pending,running,suspended,completing -o %A 2>/dev/null || true; }
no_jobs() { [ -z "$(queue)" ]; }
if alive slurmctld && alive slurmd; then
    jobs=$(queue)
    if [ -n "$jobs" ]; then
        say "cancelling $(wc -w <<<"$jobs") job(s)"
        # shellcheck disable=SC2086  # a list of numbers
        timeout 20 scancel $jobs || true
        until_true 20 no_jobs || say "some job did not end"
    fi
fi

# What end_all was asked to end and has not ended in time is killed: munged waits for a next
# client for ever where SIGTERM comes just before it begins to.
end_all() { # [NAME]
    local processes
    processes=$(ours "$@")
    if [ -n "$processes" ]; then
        # shellcheck disable=SC2086  # a list of numbers
        kill -TERM $processes 2>/dev/null || true
        until_true "${SLURM_TEST_ENDING:-20}" gone "$@" || kill -KILL $(ours "$@") 2>/dev/null || true
        until_true 20 gone "$@" || fail "${1:-some process} does not end: $(ours "$@")"
        say "${1:-the rest} ended ($(echo $processes))"
    fi
}
for name in slurmd slurmctld munged; do
    end_all "$name"
done
end_all  # steps of jobs

# With a configuration but no controller, each client call waits nine seconds.
for file in slurm.conf gres.conf; do
    if [ "$(readlink /etc/slurm/$file)" = "$dir/conf/$file" ]; then
        rm -f /etc/slurm/$file
    fi
done
if [ "${1:-}" = --purge ] && [ -f "$dir/conf/slurm.conf" ]; then
    rm -rf "$dir"
fi
