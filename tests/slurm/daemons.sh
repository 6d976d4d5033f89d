# Sourced by start.sh and stop.sh: where the cluster lies, and which processes are its own.
# Settings by the environment:
#   SLURM_TEST_DIR     keys, state, logs      [/var/lib/mstkd-slurm-test]
#   SLURM_TEST_CPUS    CPUs that it claims    [8]
#   SLURM_TEST_MEM_MB  memory that it claims  [400000]
#   SLURM_TEST_PORT    and the next one       [26817]
#   SLURM_TEST_ENDING  seconds that a daemon may take to end before it is killed  [20]
# Claims may exceed the machine: nothing is bound or limited, only counted.

dir=${SLURM_TEST_DIR:-/var/lib/mstkd-slurm-test}
case $dir in /*[!/]) ;; *) echo "SLURM_TEST_DIR must be an absolute path: $dir" >&2; exit 1 ;; esac
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export SLURM_CONF=$dir/conf/slurm.conf

say() { echo "${0##*/}: $*"; }
fail() { say "$*" >&2; exit 1; }

# Running processes of the cluster: they carry our mark, and have the name, where one is given.
# Not by pid files, which a daemon removes before it has ended; nor by `tr | grep -q`, which fails
# under pipefail where grep has seen enough before tr is done.
ours() {
    local process
    for process in $(grep -lszxF "SLURM_TEST_MARK=$dir" /proc/[0-9]*/environ); do
        process=${process%/environ}
        if [ -z "${1:-}" ] || grep -qsx "$1" "$process/comm"; then
            echo "${process#/proc/}"
        fi
    done
}
alive() { [ -n "$(ours "$1")" ]; }
gone() { [ -z "$(ours "$@")" ]; }

# until_true SECONDS COMMAND...: tries every tenth of a second whether COMMAND succeeds.
until_true() {
    local tries=$(($1 * 10))
    shift
    while ! "$@"; do
        [ $((tries -= 1)) -gt 0 ] || return 1
        sleep 0.1
    done
}
