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

for name in slurmd slurmctld munged; do
    if alive "$name"; then
        pid=$(cat "$dir/run/$name.pid")
        kill -TERM "$pid"
        gone() { ! alive "$name" || grep -qs '^State:[[:space:]]*Z' "/proc/$pid/status"; }
        until_true 20 gone || kill -KILL "$pid"
        say "$name ended (pid $pid)"
    fi
    rm -f "$dir/run/$name.pid"
done

# With a configuration but no controller, each client call waits nine seconds.
for file in slurm.conf gres.conf; do
    if [ "$(readlink /etc/slurm/$file)" = "$dir/conf/$file" ]; then
        rm -f /etc/slurm/$file
    fi
done
if [ "${1:-}" = --purge ] && [ -f "$dir/conf/slurm.conf" ]; then
    rm -rf "$dir"
fi
