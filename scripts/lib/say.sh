# Talking to people: steps with elapsed time, failures with a sentence and the log's name. To be sourced.
# LOG: where the output of steps goes; set by the caller.

if [[ -t 2 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
  bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' yellow=$'\e[33m' plain=$'\e[0m' terminal=1
else
  bold= dim= red= green= yellow= plain= terminal=
fi

say() { printf '%s\n' "$*" >&2; }
warn() { printf '%s\n' "${yellow}warning:${plain} $*" >&2; }

# stop_with SENTENCE...: the end, with what to do about it.
stop_with() {
  printf '%s\n' "${red}${bold}failed:${plain} $1" >&2
  shift
  local line
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 1
}

# step TITLE COMMAND...: runs it with its output in the log and says how long it took. On a terminal the line lives: the
# seconds run, and a build shows how far it is. Elsewhere a line every half minute says that it is still at work.
step() {
  local title=$1 began=$SECONDS pid status shown=0 progress
  shift
  printf '\n== %s: %s\n' "$title" "$*" >>"$LOG"
  local mark
  mark=$(stat -c %s "$LOG")
  # A process group of its own, so that nothing of it is left behind when somebody interrupts us.
  set -m
  "$@" >>"$LOG" 2>&1 </dev/null &
  pid=$!
  set +m
  trap 'kill -- "-$pid" 2>/dev/null; printf "\n" >&2; exit 130' INT TERM
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    local elapsed=$((SECONDS - began))
    if [[ $terminal ]]; then
      progress=$(tail -c +$((mark + 1)) "$LOG" | tail -c 4000 | tr '\r' '\n' | grep -oE '^\[[0-9]+/[0-9]+\]' | tail -n 1 || true)
      printf '\r\e[K%s… %s %s' "$title" "${dim}${elapsed} s${plain}" "${progress}" >&2
    elif ((elapsed >= shown + 30)); then
      shown=$elapsed
      progress=$(tail -c +$((mark + 1)) "$LOG" | tail -c 4000 | grep -oE '^\[[0-9]+/[0-9]+\]' | tail -n 1 || true)
      say "$title… $elapsed s $progress"
    fi
  done
  status=0
  wait "$pid" || status=$?
  trap - INT TERM
  [[ $terminal ]] && printf '\r\e[K' >&2
  if ((status == 0)); then
    say "${green}✓${plain} $title ${dim}($((SECONDS - began)) s)${plain}"
    return 0
  fi
  say "${red}✗${plain} $title"
  tail -c +$((mark + 1)) "$LOG" | grep -vE '^\[[0-9]+/[0-9]+\] (Building|Linking)' | tail -n 12 | sed 's/^/    /' >&2
  return "$status"
}
