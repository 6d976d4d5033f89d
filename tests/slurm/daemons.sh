# Sourced by start.sh and stop.sh: where the cluster lies, and which processes are its own.
# Settings by the environment:
#   SLURM_TEST_DIR     keys, state, logs      [/var/lib/mstkd-slurm-test]
#   SLURM_TEST_CPUS    CPUs that it claims    [8]
#   SLURM_TEST_MEM_MB  memory that it claims  [400000]
#   SLURM_TEST_PORT    and the next one       [26817]
# Claims may exceed the machine: nothing is bound or limited, only counted.

dir=${SLURM_TEST_DIR:-/var/lib/mstkd-slurm-test}
case $dir in /*[!/]) ;; *) echo "SLURM_TEST_DIR must be an absolute path: $dir" >&2; exit 1 ;; esac
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export SLURM_CONF=$dir/conf/slurm.conf

say() { echo "${0##*/}: $*"; }
fail() { say "$*" >&2; exit 1; }

# A daemon is the cluster's when the process of its pid file has its name and carries our mark.
alive() {
    local pid
    pid=$(cat "$dir/run/$1.pid" 2>/dev/null) && [ -n "$pid" ] &&
        grep -qs "^$1" "/proc/$pid/comm" &&
        tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | grep -qxF "SLURM_TEST_MARK=$dir"
}

# until_true SECONDS COMMAND...: tries every tenth of a second whether COMMAND succeeds.
until_true() {
    local tries=$(($1 * 10))
    shift
    while ! "$@"; do
        [ $((tries -= 1)) -gt 0 ] || return 1
        sleep 0.1
    done
}
