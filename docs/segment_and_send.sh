#!/usr/bin/env bash
# Segments a study that dcmtk's storescp has received, and sends the DICOM SEG to a PACS. See "PACS" in batch.md.
#
#   segment_and_send.sh STUDY_FOLDER
#
# From the environment:
#   FINDINGS       what to look for, separated by ";"
#   RESULTS        folder for results and logs; names in it tell nothing about patients
#   PACS           HOST:PORT where the segmentations go
#   PACS_AET       application entity title of the PACS (ANY-SCP if not given)
#   OUR_AET        ours (FASTTEXTDIFF if not given)
#   BATCH_OPTIONS  more options of `fasttextdiff batch`, e.g. "--modality ct --largest-series"
set -euo pipefail

study=${1:?give the folder of a study}
: "${FINDINGS:?}" "${RESULTS:?}" "${PACS:?}"

IFS=';' read -ra texts <<<"$FINDINGS"
findings=()
for text in "${texts[@]}"; do findings+=(-f "$text"); done
read -ra more <<<"${BATCH_OPTIONS:-}"

mkdir -p "$RESULTS"
# A study that has grown since is another piece of work; what was found before stays.
name=$(basename "$study")-$(find "$study" -type f | wc -l)
exec >>"$RESULTS/$name.log" 2>&1
# One study at a time, in whatever number they arrive.
exec 9>"$RESULTS/.lock"
flock 9

code=0
fasttextdiff batch "$study" -o "$RESULTS/$name" "${findings[@]}" --format .dcm "${more[@]}" || code=$?
if [ "$code" -gt 1 ]; then exit "$code"; fi # 1: some series failed, the others are sent

mapfile -d '' -t objects < <(find "$RESULTS/$name" -name '*.dcm' -print0 | sort -z)
if [ "${#objects[@]}" -gt 0 ]; then
  storescu -R -aet "${OUR_AET:-FASTTEXTDIFF}" -aec "${PACS_AET:-ANY-SCP}" "${PACS%:*}" "${PACS##*:}" "${objects[@]}"
fi
echo "sent ${#objects[@]} to $PACS"
exit "$code"
