# shellcheck shell=bash
# The functions of train.sbatch, in calling order. They share the variables in capitals.

say() { echo "[$(date +%H:%M:%S)] $*"; }

die() { # message [exit code]
    echo "error: $1" >&2
    exit "${2:-1}"
}

# ---- cluster-specific settings --------------------------------------------------------------------------------------

# Seconds that ending the processes and requeueing may take.
LAST_CALL_S=45

activate() { :; } # for site.env to define

load_site() {
    cd "$SLURM_SUBMIT_DIR" || exit
    local file=${SITE_ENV:-$SLURM_SUBMIT_DIR/site.env}
    [[ -e $file || ! ${SITE_ENV:-} ]] || die "SITE_ENV $file: no such file; correct or unset SITE_ENV" 2
    set +u # the scripts of modules and conda use unset variables
    # shellcheck source=/dev/null
    if [[ -e $file ]]; then source "$file"; else say "no $file: using the defaults"; fi
    : "${REINFORCEPP:=reinforcepp}" "${CONTAINER:=none}" "${CONTAINER_MOUNTS:=}" "${SECRETS_FILE:=}" "${NIC:=}"
    : "${TEMP_ROOT:=/tmp}" "${MIN_FREE_GIB:=10}" "${PORT_FIRST:=20000}" "${PORT_LAST:=31999}" "${PORTS_A_NODE:=400}"
    : "${READY_DEADLINE_S:=600}" "${MAX_REQUEUES_WITHOUT_PROGRESS:=2}" "${REQUEUE_ON_FAILURE:=0}"
    # For node.sh, which runs on every node.
    export REINFORCEPP NIC MIN_FREE_GIB PORT_FIRST PORT_LAST PORTS_A_NODE READY_DEADLINE_S
    # For this job only; short, because Ray creates sockets in it, whose paths are limited to 107 bytes.
    export RAY_TMPDIR=$TEMP_ROOT/rpp_$SLURM_JOB_ID
    activate
    set -u
}

# The lines are not run as Bash, which would interpret a $ or a space in a password.
load_secrets() {
    [[ $SECRETS_FILE ]] || return 0
    local line name value number=0
    local form='^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*[^[:space:]])?[[:space:]]*$'
    [[ -r $SECRETS_FILE ]] || die "SECRETS_FILE $SECRETS_FILE: not readable; write it, or leave SECRETS_FILE empty" 2
    [[ $(stat --dereference --format=%a "$SECRETS_FILE") == [46]00 ]] ||
        die "SECRETS_FILE $SECRETS_FILE: others may read it; chmod 600 $SECRETS_FILE" 2
    while IFS= read -r line || [[ $line ]]; do
        number=$((number + 1))
        [[ ! $line =~ ^[[:space:]]*(#.*)?$ ]] || continue
        [[ $line =~ $form ]] || die "SECRETS_FILE $SECRETS_FILE, line $number: it must be NAME=value" 2
        name=${BASH_REMATCH[2]} value=${BASH_REMATCH[3]}
        [[ ! $value =~ ^\"(.*)\"$|^\'(.*)\'$ ]] || value=${value:1:-1}
        export "$name=$value"
    done <"$SECRETS_FILE"
}

# step [srun options] -- command: one task per node, in the container. Replaces the shell: call it with & or in ( ).
step() {
    local options=() inside=()
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    case $CONTAINER in
        none) ;;
        pyxis:*)
            options+=("--container-image=${CONTAINER#pyxis:}" "--container-mounts=$(mounts)" "--container-workdir=$PWD")
            ;;
        apptainer:*)
            inside=(apptainer exec ${SLURM_GPUS_ON_NODE:+--nv} --bind "$(mounts)" --pwd "$PWD" "${CONTAINER#apptainer:}")
            ;;
        *) die "CONTAINER $CONTAINER: it must be none, pyxis:IMAGE or apptainer:FILE" 2 ;;
    esac
    # Without --cpus-per-task a task gets one CPU, regardless of the job's.
    exec srun --overlap --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_ON_NODE" --kill-on-bad-exit=1 \
        "${options[@]}" "${inside[@]}" "$@"
}

on_head() { step --nodes=1 --ntasks=1 --nodelist="$SLURMD_NODENAME" "$@"; }

# Ray's processes and the driver are in separate containers: they connect through Ray's sockets in TEMP_ROOT.
mounts() {
    local folder others mounted=$TEMP_ROOT:$TEMP_ROOT
    IFS=, read -ra others <<<"$CONTAINER_MOUNTS"
    for folder in "$SLURM_SUBMIT_DIR" "$JOB_FILES" "${RUN:-$SLURM_SUBMIT_DIR}" "${others[@]}"; do
        mounted+=,$folder:$folder
    done
    echo "$mounted"
}

# ---- the run and its folder -----------------------------------------------------------------------------------------

# Sets RUN: that of this job's previous start, the one created by `reinforcepp slurm submit`, or a new run.
find_run() {
    local task=${SLURM_ARRAY_TASK_ID:-} record made seed=()
    JOB=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${task:+_$task}
    local given=REINFORCEPP_SLURM_RUN${task:+_$task}
    RUN=${!given:-}
    # Job numbers are unique per cluster only, and start again when its state is lost.
    record=$SLURM_SUBMIT_DIR/slurm_jobs/${SLURM_CLUSTER_NAME:+$SLURM_CLUSTER_NAME/}$JOB
    if is_restart && [[ -e $record ]]; then
        RUN=$(<"$record")
    elif [[ ! $RUN ]]; then
        (($#)) || die "no arguments, and no run: is sbatch called with --export=NONE? name a recipe, +recipe=..." 2
        [[ ! $task ]] || seed=("seed=$task")
        made=$( (on_head -- "$REINFORCEPP" create "$@" "${seed[@]}"))
        RUN=${made##*$'\n'}
    fi
    [[ -d $RUN ]] || die "$RUN: no such run folder on $SLURMD_NODENAME; set runs_dir to a folder that all nodes share" 2
    RUN=$(realpath "$RUN") # runs/latest may point to another run at the next start
    # A run created by submit is found without this record.
    mkdir -p "${record%/*}" && echo "$RUN" >"$record" || [[ ${!given:-} ]] || die "$record: cannot be written" 2
}

is_restart() { ((${SLURM_RESTART_COUNT:-0} > 0)); }

# Sets ATTEMPT, the folder for the logs of this start, and FIRST_STEP, from which it continues.
new_attempt() {
    local number=1
    while [[ -e $RUN/slurm/attempt_$number ]]; do number=$((number + 1)); done
    ATTEMPT=$RUN/slurm/attempt_$number
    mkdir -p "$ATTEMPT/nodes"
    ln -sfn "attempt_$number" "$RUN/slurm/latest"
    echo "$JOB" >"$RUN/slurm/job_id"
    is_restart || rm -f "$RUN/slurm/requeues_without_progress" # those of another job
    FIRST_STEP=$(newest_step) FOLLOWED='' RAY_STEPS=()
    say "job $JOB on $SLURM_JOB_NODELIST: start $number of $RUN, newest checkpoint at step $FIRST_STEP"
}

newest_step() {
    local marker step newest=0
    for marker in "$RUN"/checkpoints/global_step_*/COMPLETE; do
        [[ -e $marker ]] || continue
        step=${marker%/COMPLETE} step=${step##*_}
        newest=$((step > newest ? step : newest))
    done
    echo "$newest"
}

# Sets NODES, and DEVICE, GPUS and CPUS per node, from the run's configuration.
read_facts() {
    local facts
    NODES=$SLURM_JOB_NUM_NODES
    facts=$( (on_head -- "$REINFORCEPP" slurm facts "$RUN" "$NODES"))
    read -r DEVICE GPUS CPUS <<<"${facts##*$'\n'}"
    [[ $CPUS != null ]] || CPUS=$SLURM_CPUS_ON_NODE
}

# ---- before the start -----------------------------------------------------------------------------------------------

check_nodes() {
    local version oldest=22.05
    version=$(scontrol --version)
    # In older versions overlapping steps share CPUs but not GPUs and memory: the driver would wait forever.
    [[ $NODES == 1 || ! ${version##* } < $oldest ]] || die "$version: several nodes need $oldest; train on one node" 2
    echo "$JOB" >"$ATTEMPT/canary"
    step --nodes="$NODES" --ntasks="$NODES" --output="$ATTEMPT/preflight-%t.log" -- \
        bash "$JOB_FILES/node.sh" check "$ATTEMPT" "$JOB" "$DEVICE" "$GPUS" &
    follow $! || die "a node failed its check: $(grep -h ^error: "$ATTEMPT"/preflight-*.log || echo "see $ATTEMPT")"
    local answers=("$ATTEMPT"/nodes/*)
    ((${#answers[@]} == NODES)) ||
        die "$ATTEMPT: ${#answers[@]} of $NODES nodes wrote into it; set runs_dir to a folder that all nodes share"
    (($(sort -u "${answers[@]}" | wc -l) == 1)) ||
        die "the nodes have different versions installed:"$'\n'"$(grep . "${answers[@]}")"
    say "all nodes passed their checks: $(<"${answers[0]}")"
}

# Sets ADDRESS of the Ray cluster on this job's nodes.
start_ray() {
    unset RAY_AUTH_TOKEN # it would take precedence
    export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$ATTEMPT/ray_token
    (umask 077 && od --address-radix=n --format=x1 --read-bytes=32 /dev/urandom | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH")
    on_head --output="$ATTEMPT/head.log" -- bash "$JOB_FILES/node.sh" as_head "$ATTEMPT" "$CPUS" "$GPUS" &
    RAY_STEPS+=($!)
    step --nodes=$((NODES - 1)) --ntasks=$((NODES - 1)) --exclude="$SLURMD_NODENAME" \
        --output="$ATTEMPT/worker-%t.log" -- bash "$JOB_FILES/node.sh" as_worker "$ATTEMPT" "$CPUS" "$GPUS" &
    RAY_STEPS+=($!)
    on_head -- "$REINFORCEPP" slurm ready "$ATTEMPT/ray_address" "$NODES" "$GPUS" "$READY_DEADLINE_S" &
    follow $! || die "Ray did not start; its logs are in $ATTEMPT"
    ADDRESS=$(<"$ATTEMPT/ray_address")
}

# ---- the training ---------------------------------------------------------------------------------------------------

# Ends the job with the driver's exit code.
train() {
    local settings=("ray_kwargs.ray_init.num_cpus=$CPUS") log tee code=0
    ((NODES == 1)) || settings=(ray_kwargs.ray_init.{"address=$ADDRESS",num_cpus=null,num_gpus=null})
    # The launcher removes an existing STOP, so do not start it in a job that must already stop.
    [[ ! $STOPPING ]] || exit 75
    exec {log}> >(exec tee "$ATTEMPT/driver.log")
    tee=$!
    on_head -- "$REINFORCEPP" resume "$RUN" "${settings[@]}" >&"$log" 2>&1 &
    exec {log}>&-
    follow $! || code=$?
    wait "$tee" || true
    exit "$code"
}

# Waits for process $1 and returns its exit code; ends the job at once if a part of Ray ends first.
follow() {
    local part
    FOLLOWED=$1
    while kill -0 "$1" 2>/dev/null; do
        for part in "${RAY_STEPS[@]}"; do
            kill -0 "$part" 2>/dev/null || die "a part of Ray ended; head.log and worker-*.log are in $ATTEMPT"
        done
        # Repeatedly, because the launcher may be removing the STOP of the previous attempt.
        [[ ! $STOPPING ]] || touch "$RUN/STOP"
        if [[ $REQUEUE ]] && ((SECONDS >= LAST_CALL)); then
            say "the step or its save takes too long; requeued without a new checkpoint (--signal=B:USR1@... in SBATCH_ARGS)"
            exit 75
        fi
        sleep 0.2 &
        wait $! || true # a signal ends the wait
    done
    wait "$1"
}

# Before the time limit: request a save, and requeue the job in any case while there is time.
time_is_over() {
    local left
    left=$(squeue --noheader --jobs="$JOB" --format=%L 2>/dev/null || true)
    LAST_CALL=$((SECONDS + $(seconds "${left%%$'\n'*}") - LAST_CALL_S)) REQUEUE=yes
    ask_to_stop USR1
}

# Prints [[D-]H:]M:S in seconds; anything else, such as UNLIMITED, is a year.
seconds() {
    [[ $1 =~ ^[0-9:-]+$ ]] || set -- 365-00:00:00
    awk -F '[-:]' '{ print $NF + 60 * $(NF - 1) + (NF > 2 ? 3600 * $(NF - 2) : 0) + (NF > 3 ? 86400 * $(NF - 3) : 0) }' <<<"$1"
}

ask_to_stop() {
    say "$1: requesting the run to finish its step, save and end"
    STOPPING=yes
    touch "$RUN/STOP"
}

# ---- the end --------------------------------------------------------------------------------------------------------

finish() {
    local code=$?
    trap - EXIT
    set +e
    end_steps "$code"
    rm -f "$ATTEMPT/ray_token"
    # The loop of follow may have written it again after the launcher removed it.
    [[ ! $STOPPING ]] || rm -f "$RUN/STOP"
    say "exit code $code, newest checkpoint at step $(newest_step)"
    if to_be_requeued "$code"; then
        # Not SLURM_JOB_ID, which for one task would be the whole array.
        scontrol requeue "$JOB"
    fi
    exit "$code"
}

# Never with `ray stop`, which would also end the Ray of other jobs on the same node.
end_steps() {
    local deadline=$((SECONDS + 30))
    [[ ! $FOLLOWED ]] || kill "$FOLLOWED" 2>/dev/null
    echo "$1" >"$ATTEMPT/ray_stop"
    while ((SECONDS < deadline)) && kill -0 "${RAY_STEPS[@]}" 2>/dev/null; do
        sleep 0.2
    done
    kill "${RAY_STEPS[@]}" 2>/dev/null
    (step --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" -- \
        bash "$JOB_FILES/node.sh" leave "$ATTEMPT" "$1")
}

# True for a run stopped by the time limit; for a failed one only on request, because it would usually fail again.
to_be_requeued() {
    case $1 in
        0 | 2) return 1 ;;
        75) [[ $REQUEUE ]] || was_preempted || return 1 ;;
        *) ((REQUEUE_ON_FAILURE)) && [[ ! $STOPPING ]] || was_preempted || return 1 ;;
    esac
    local file=$RUN/slurm/requeues_without_progress count=0
    if (($(newest_step) == FIRST_STEP)); then
        count=$(($(cat "$file" 2>/dev/null || echo 0) + 1))
    fi
    echo "$count" >"$file"
    ((count > MAX_REQUEUES_WITHOUT_PROGRESS)) || return 0 # explicit: in a trap a bare return keeps the previous status
    say "not requeued: $count starts in a row ended without a new checkpoint (MAX_REQUEUES_WITHOUT_PROGRESS)"
    return 1
}

# With GraceTime the steps get SIGTERM at its start, and Slurm does not requeue a job that ends within it.
was_preempted() {
    local fields
    fields=$(scontrol --oneliner show job "$JOB")
    [[ $fields =~ \ StartTime=([^ ]+)\ .*\ PreemptTime=([0-9][^ ]+) && ${BASH_REMATCH[2]} > ${BASH_REMATCH[1]} ]]
}
