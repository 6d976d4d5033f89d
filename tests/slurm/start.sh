#!/usr/bin/env bash
# Start a one-node SLURM for tests, as root and without systemd: munged, slurmctld, slurmd.
#
#   tests/slurm/start.sh      and tests/slurm/stop.sh --purge when done
#
# Missing packages are installed from Debian. The node claims six GPUs that do not exist. Exit
# status 77 says that this machine cannot have such a cluster; the last line says why.
set -euo pipefail
# shellcheck source=tests/slurm/daemons.sh
. "$(dirname "${BASH_SOURCE[0]}")/daemons.sh"

cannot() { say "$*"; exit 77; }

cpus=${SLURM_TEST_CPUS:-8}
mem_mb=${SLURM_TEST_MEM_MB:-400000}
port=${SLURM_TEST_PORT:-26817}
host=$(uname -n)
host=${host%%.*}

[ "$(id -u)" = 0 ] || cannot "needs root"
for file in slurm.conf gres.conf; do
    if [ -e /etc/slurm/$file ] && [ "$(readlink /etc/slurm/$file)" != "$dir/conf/$file" ]; then
        cannot "this machine has an /etc/slurm/$file of its own"
    fi
done

# --- packages ------------------------------------------------------------------------------------
missing=()
for pair in munged:munge slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
mkdir -p "$dir"
if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || cannot "needs ${missing[*]}, and there is no apt-get"
    say "installing ${missing[*]}"
    # As policy-rc.d says to Debian's scripts: start no services for these packages.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f $policy' EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    apt() {
        DEBIAN_FRONTEND=noninteractive timeout 150 apt-get -y \
            -o Acquire::http::Timeout=20 -o Acquire::Retries=1 "$@" >>"$dir/apt.log" 2>&1
    }
    install=(install --no-install-recommends "${missing[@]}")
    apt "${install[@]}" || { apt update && apt "${install[@]}"; } ||
        cannot "apt-get could not install ${missing[*]}: $(tail -n 1 "$dir/apt.log")"
fi

# --- configuration -------------------------------------------------------------------------------
umask 022
mkdir -p "$dir"/{conf,log,munge,run,spool,state} /etc/slurm
chmod 755 "$dir" "$dir"/{conf,log,munge,run,spool}  # munged refuses looser ones
cat >"$dir/conf/slurm.conf" <<CONF
ClusterName=mstkd-test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$dir/munge/munge.socket
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
MailProg=/bin/true
# A container may have no cgroups that we may write.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
ReturnToService=2
# What asks for more than there is fails at once instead of waiting for ever.
EnforcePartLimits=ALL
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=5
# Without accounting, squeue has to remember the jobs that ended.
MinJobAge=3600
KillWait=5
GresTypes=gpu
NodeName=test-node NodeHostname=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$mem_mb Gres=gpu:6 State=UNKNOWN
PartitionName=short Nodes=test-node Default=YES MaxTime=1-00:00:00 State=UP
PartitionName=other Nodes=test-node MaxTime=1-00:00:00 State=UP
CONF
# slurmd wants a device for each GPU before it tells jobs which they have; it opens none.
: >"$dir/conf/gres.conf"
for device in /dev/{null,zero,full,random,urandom,ptmx}; do
    echo "NodeName=test-node Name=gpu File=$device" >>"$dir/conf/gres.conf"
done
# Where clients look without SLURM_CONF: the executor plugin's job steps drop all SLURM_*.
for file in slurm.conf gres.conf; do
    ln -sfn "$dir/conf/$file" /etc/slurm/$file
done

# --- daemons -------------------------------------------------------------------------------------
start() { # NAME COMMAND...; the command goes to the background by itself
    local name=$1
    shift
    if ! alive "$name"; then
        (cd / && SLURM_TEST_MARK=$dir "$@") </dev/null >>"$dir/log/$name.out" 2>&1 &&
            until_true 15 alive "$name" || {
            tail -n 20 "$dir/log/$name".* >&2
            fail "$name did not come up"
        }
    fi
    say "$name runs (pid $(echo $(ours "$name")))"
}

[ -s "$dir/munge/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom >"$dir/munge/munge.key")
start munged munged --key-file="$dir/munge/munge.key" --seed-file="$dir/munge/munge.seed" \
    --socket="$dir/munge/munge.socket" --pid-file="$dir/run/munged.pid" \
    --log-file="$dir/log/munged.log" --num-threads=2
start slurmctld slurmctld -c -f "$SLURM_CONF"  # -c: no jobs of an earlier cluster
start slurmd slurmd -f "$SLURM_CONF"

idle() { [ "$(sinfo -h -n test-node -p short -o %T 2>/dev/null)" = idle ]; }
until_true 30 idle || {
    tail -n 20 "$dir/log/slurmctld.log" "$dir/log/slurmd.log" >&2
    fail "the node did not become idle: $(sinfo -h -o '%T %E' 2>&1)"
}
(cd / && timeout 60 srun --quiet -n1 -t1 --mem=10 true) || fail "the first job failed"
say "ready"
