# Ends the processes of a stack when their owner is gone. Its stdin is a pipe that only the owner holds open.
#   + PID STARTED SIGNAL   this process must not outlive the owner
#   - PID                  it has ended
#   bye                    the owner has cleaned up by itself
# $1: directory to remove afterwards (empty: keep)   $2: seconds between SIGNAL and SIGKILL
trap '' HUP INT TERM QUIT
list=

alive() { # PID STARTED: the same process, and not a zombie
  { read -r stat < "/proc/$1/stat"; } 2>/dev/null || return 1
  set -- "$2" ${stat##*) }
  [ "$2" != Z ] && [ "${21}" = "$1" ]
}

each() { # COMMAND: run it for each living process, with PID and SIGNAL; fails if none lives
  some=1
  for entry in $list; do
    pid=${entry%%:*} signal=${entry##*:} started=${entry#*:}
    alive "$pid" "${started%:*}" || continue
    some=0
    $1 "$pid" "$signal" 2>/dev/null
  done
  return $some
}

gently() { kill "-$2" "$1"; kill -CONT "$1"; }
firmly() { kill -KILL "$1"; }

while read -r verb pid started signal; do
  case $verb in
    +) list="$list $pid:$started:$signal" ;;
    -) kept=
       for entry in $list; do case $entry in "$pid":*) ;; *) kept="$kept $entry" ;; esac; done
       list=$kept ;;
    bye) exit 0 ;;
  esac
done

each gently
ticks=$(($2 * 20))
while [ "$ticks" -gt 0 ] && each :; do sleep 0.05; ticks=$((ticks - 1)); done
ticks=200
while [ "$ticks" -gt 0 ] && each firmly; do sleep 0.05; ticks=$((ticks - 1)); done
if [ -n "$1" ]; then
  for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" 2>/dev/null && break; sleep 0.3; done
fi
