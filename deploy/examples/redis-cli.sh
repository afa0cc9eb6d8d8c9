#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Adwuma from a shell, with redis-cli alone (7.0 or newer): submit, wait, poll, call off, follow a stream.
#
#   redis-cli.sh translate TEXT [PAIR]   submits and waits; after WAIT_S (20) prints the id: exit code 75
#   redis-cli.sh submit TYPE FIELDS      FIELDS is JSON, like '{"text":"Maakye","language":"twi"}'; prints the id
#   redis-cli.sh poll ID                 the result, or exit code 75 while there is none
#   redis-cli.sh cancel ID
#   redis-cli.sh chat MODEL MESSAGE      the answer as it comes, each event a line
#   redis-cli.sh follow ID [LAST]        the events of a chat, those behind LAST
#
# Exit codes: 0 done, 1 the job failed or Redis did not answer, 2 wrong use, 75 not yet.
set -euo pipefail
shopt -s inherit_errexit # what goes wrong within $(…) ends the whole, too

# -e: what Redis refuses is an error here, too.
redis() { redis-cli -e -u "${REDIS_URL:-redis://127.0.0.1:6379/0}" --raw "$@"; }

# Text as a JSON string. Control characters other than line ends and tabs have no place in what is translated or asked.
quoted() {
	local text
	text=$(tr -d '\000-\010\013-\014\016-\037' <<<"$1")
	text=${text//\\/\\\\} text=${text//\"/\\\"} text=${text//$'\n'/\\n} text=${text//$'\r'/\\r} text=${text//$'\t'/\\t}
	printf '"%s"' "$text"
}

# The id begins with the queue's name, so that it tells where to look. It is made here: what is sent twice has one result.
submit() { # type, fields as a JSON object
	local queue=${1%%.*} id fields=${2#\{}
	id=$queue.$(cat /proc/sys/kernel/random/uuid)
	if [ "$2" = "$fields" ] || [ "$fields" = "}" ]; then usage; fi
	redis LPUSH "adwuma:{$queue}:ready" "{\"id\":\"$id\",\"type\":\"$1\",$fields" >/dev/null
	echo "$id"
}

key() { # kind, id
	[[ $2 =~ ^[a-z]+\.[A-Za-z0-9._:-]{1,100}$ ]] || usage
	echo "adwuma:{${2%%.*}}:$1:$2"
}

# A result, and the type of its error. Before its status no other brace opens, so what a result has inside is not mistaken for it.
show() { # result
	printf '%s\n' "$1"
	if [[ $1 =~ ^\{[^{]*\"status\":\"failed\",\"error\":\{\"type\":\"([^\"]*)\" ]]; then
		echo "failed: ${BASH_REMATCH[1]}" >&2
		return 1
	fi
}

wait_for() { # id
	local result k
	k=$(key result "$1")
	result=$(redis BLMOVE "$k" "$k" LEFT LEFT "${WAIT_S:-20}")
	[ -n "$result" ] || { echo "$1"; exit 75; }
	show "$result"
}

poll() { # id
	local result k
	k=$(key result "$1")
	result=$(redis LINDEX "$k" 0)
	[ -n "$result" ] || exit 75
	show "$result"
}

# Each entry is six lines: its id, "event", the event, "data", the JSON. Where the connection breaks, the same command with the last id goes on.
follow() { # id [last]
	local stream last=${2:-0} id event data over found
	stream=$(key stream "$1")
	while :; do
		over=$(redis LINDEX "$(key result "$1")" 0) # before the stream is read: then the stream is complete
		found=$(redis XREAD COUNT 100 BLOCK "$([ "$over" ] && echo 1 || echo 2000)" STREAMS "$stream" "$last" | tail -n +2)
		while read -r id && read -r && read -r event && read -r && read -r data; do
			last=$id
			printf '%s %s %s\n' "$id" "$event" "$data"
			case $event in done) return ;; error) return 1 ;; esac
		done <<<"$found"
		[ -z "$over" ] || [ -n "$found" ] || { show "$over"; return; } # a job that does not stream
	done
}

usage() {
	sed -n 's/^#   //p' "$0" >&2
	exit 2
}

case ${1:-}/$# in
translate/[23]) id=$(submit translate "{\"text\":$(quoted "$2"),\"language_pair\":$(quoted "${3-en-tw}")}"); wait_for "$id" ;;
submit/3) submit "$2" "$3" ;;
poll/2) poll "$2" ;;
cancel/2) k=$(key cancelled "$2"); redis ZADD "${k%":$2"}" "$(date +%s%3N)" "$2" >/dev/null ;;
chat/3)
	id=$(submit taskingai.chat_completion "{\"params\":{\"model_id\":$(quoted "$2"),\"stream\":true,
		\"messages\":[{\"role\":\"user\",\"content\":$(quoted "$3")}]}}")
	follow "$id"
	;;
follow/[23]) follow "${@:2}" ;;
*) usage ;;
esac
