#!/usr/bin/env bash
#SBATCH --job-name=banscan
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=08:00:00
#SBATCH --output=banscan-%A-%a.log
## on a GPU each: #SBATCH --gpus=1

# One part of the models for each task of the array, on whatever machine it runs:
#
#     sbatch examples/fleet/slurm.sh models/ imgs/ results/
#
# and when all are done: banscan merge results/ -o index.html -o findings.sarif
# What was stopped goes on when the same line is given again. Models, images and results lie where all machines see them.

set -euo pipefail
if [ $# -lt 3 ]; then
    echo "expected three folders: sbatch slurm.sh MODELS IMAGES RESULTS [OPTION...]" >&2
    exit 4
fi
models=$1 images=$2 results=$3
shift 3

# a task of the array fails where a scan fails, not for a verdict: that is the merge's business
banscan scan "$models" --clean-dir "$images" --results "$results" --shard auto \
    --threads "${SLURM_CPUS_PER_TASK:-1}" --exit-zero "$@"
