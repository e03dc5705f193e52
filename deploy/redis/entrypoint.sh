#!/bin/sh
# Writes the ACL file out of users.acl and the passwords, and becomes the command it is given.
#
#   entrypoint.sh valkey-server /etc/redis/redis.conf
#   entrypoint.sh --print          the finished ACL file, for a Redis that somebody else runs
#
# The passwords are SUBMITTER_PASSWORD, CLOCK_PASSWORD, FLOWER_PASSWORD and WORKER_PASSWORD;
# where NAME_PASSWORD_ALSO is set, it is good beside the other one, as while it is changed.
set -eu
template=${ACL_TEMPLATE:-/etc/redis/users.acl}
finished=${ACL_FILE:-/run/redis/users.acl}

digest() {
    printf %s "$1" | sha256sum | cut -d ' ' -f 1
}

# The digests of one user, as they stand after a #.
digests() {
    eval "old=\${${1}_PASSWORD:-} also=\${${1}_PASSWORD_ALSO:-}"
    # shellcheck disable=SC2154
    if [ -z "$old" ]; then
        echo "${1}_PASSWORD is not set" >&2
        exit 2
    fi
    digest "$old"
    # shellcheck disable=SC2154
    [ -z "$also" ] || digest "$also"
}

render() {
    text=$(sed '/^#/d; /^$/d' "$template" | awk '
        /^ / { sub(/^ +/, ""); line = line " " $0; next }
        line { print line }
        { line = $0 }
        END { print line }')
    for user in SUBMITTER CLOCK FLOWER WORKER; do
        hashes=$(digests "$user") || exit 2
        text=$(printf %s "$text" | sed "s/@$user@/$(printf %s "$hashes" | tr '\n' '+' | sed 's/+/ #/g')/")
    done
    printf '%s\n' "$text"
}

umask 077
if [ "${1:-}" = --print ]; then
    render
    exit
fi
render >"$finished"
# The server need not know what it has to compare with.
unset SUBMITTER_PASSWORD CLOCK_PASSWORD FLOWER_PASSWORD WORKER_PASSWORD
unset SUBMITTER_PASSWORD_ALSO CLOCK_PASSWORD_ALSO FLOWER_PASSWORD_ALSO WORKER_PASSWORD_ALSO
exec "$@"
