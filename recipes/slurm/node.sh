#!/bin/bash
# The commands that train.sbatch runs on every node, inside the container if there is one:
# node.sh check|as_head|as_worker|leave ...
set -euo pipefail

die() {
    echo "error: $(hostname): $*" >&2
    exit 1
}

check() { # attempt job device gpus
    local attempt=$1 job=$2 device=$3 gpus=$4 found versions
    [[ $(cat "$attempt/canary" 2>/dev/null) == "$job" ]] ||
        die "$attempt/canary is not visible; set runs_dir to a folder that all nodes share"
    mkdir -p "$RAY_TMPDIR"
    found=$(df --output=avail --block-size=1G "$RAY_TMPDIR" | tail -n 1)
    ((found >= MIN_FREE_GIB)) ||
        die "$RAY_TMPDIR has $found GiB left, less than MIN_FREE_GIB=$MIN_FREE_GIB; set TEMP_ROOT to another disk"
    if [[ $device == cuda ]]; then
        found=$(nvidia-smi -L | grep -c ^GPU) || true
        ((found >= gpus)) || die "nvidia-smi sees $found GPUs, and the run needs $gpus; sbatch --gpus-per-node=$gpus"
    fi
    versions=$("$REINFORCEPP" slurm versions) || die "$REINFORCEPP does not run; define activate in site.env"
    echo "${versions##*$'\n'}" >"$attempt/nodes/$SLURMD_NODENAME"
}

as_head() { # attempt cpus gpus
    local first address
    first=$(free_ports)
    address=$(own_address)
    start_ray "$@" "$first" "$address" --head --port="$first" --ray-client-server-port=$((first + 1)) \
        --include-dashboard=false --dashboard-host=127.0.0.1
}

as_worker() { # attempt cpus gpus
    local deadline=$((SECONDS + READY_DEADLINE_S)) address first own
    until address=$(cat "$1/ray_address" 2>/dev/null) && answers "${address%:*}" "${address##*:}"; do
        [[ ! -e $1/ray_stop ]] || return 0
        ((SECONDS < deadline)) || die "no Ray at '$address' after READY_DEADLINE_S=$READY_DEADLINE_S s; see $1/head.log"
        sleep 1
    done
    first=$(free_ports)
    own=$(own_address)
    start_ray "$@" "$first" "$own" --address="$address"
}

# Runs Ray until the file ray_stop appears; it is a failure if Ray ends by itself.
start_ray() { # attempt cpus gpus first_port address [options of `ray start`]
    local attempt=$1 cpus=$2 gpus=$3 first=$4 address=$5 ray
    shift 5
    mkdir -p "$RAY_TMPDIR"
    ray start --block --disable-usage-stats --node-ip-address="$address" --num-cpus="$cpus" --num-gpus="$gpus" \
        --temp-dir="$RAY_TMPDIR" --node-manager-port=$((first + 2)) --object-manager-port=$((first + 3)) \
        --runtime-env-agent-port=$((first + 4)) --dashboard-agent-grpc-port=$((first + 5)) \
        --dashboard-agent-listen-port=$((first + 6)) --metrics-export-port=$((first + 7)) \
        --min-worker-port=$((first + 10)) --max-worker-port=$((first + PORTS_A_NODE - 1)) "$@" &
    ray=$!
    if [[ " $* " == *" --head "* ]]; then
        echo "$address:$first" >"$attempt/ray_address.new"
        mv "$attempt/ray_address.new" "$attempt/ray_address"
    fi
    while [[ ! -e $attempt/ray_stop ]] && kill -0 "$ray" 2>/dev/null; do
        sleep 0.2
    done
    [[ -e $attempt/ray_stop ]] || die "Ray ended by itself"
    kill "$ray"
    wait "$ray" || true # its exit code is that signal
}

# Keeps Ray's logs of a failed job and removes everything else.
leave() { # attempt exit_code
    if [[ $2 != 0 && $2 != 75 && -d $RAY_TMPDIR/session_latest/logs ]]; then
        mkdir -p "$1/ray_logs"
        cp -r "$RAY_TMPDIR/session_latest/logs" "$1/ray_logs/$SLURMD_NODENAME"
    fi
    rm -rf "$RAY_TMPDIR"
}

# Prints the first of PORTS_A_NODE free ports. They depend on the job, so that jobs on one node do not conflict, and are
# below the ephemeral ports of the kernel.
free_ports() {
    local blocks=$(((PORT_LAST - PORT_FIRST + 1) / PORTS_A_NODE)) ephemeral first try
    read -r ephemeral _ </proc/sys/net/ipv4/ip_local_port_range
    ((PORT_LAST < ephemeral)) ||
        echo "warning: ports from $ephemeral on are ephemeral; lower PORT_LAST=$PORT_LAST if you can" >&2
    for ((try = 0; try < blocks; try++)); do
        first=$((PORT_FIRST + (SLURM_JOB_ID + try) % blocks * PORTS_A_NODE))
        all_free "$first" && echo "$first" && return
    done
    die "no $PORTS_A_NODE free ports from PORT_FIRST=$PORT_FIRST to PORT_LAST=$PORT_LAST"
}

all_free() {
    local port
    for ((port = $1; port < $1 + 10; port++)); do
        ! answers 127.0.0.1 "$port" || return 1
    done
}

answers() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# Prints the address at which other nodes reach this one: that of NIC, or its first one.
own_address() {
    local address
    if [[ $NIC ]]; then
        address=$(ip -4 -oneline address show dev "$NIC" | awk '{split($4, part, "/"); print part[1]; exit}')
    else
        address=$(hostname -I | awk '{print $1}')
    fi
    [[ $address && $address != 127.* ]] || die "its address '$address' cannot be reached from other nodes; set NIC"
    echo "$address"
}

"$@"
