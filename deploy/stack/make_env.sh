#!/bin/sh
# Write .env with random passwords, unless it is there: `make_env.sh FILE`. Needs a shell and /dev/urandom only.
set -eu
file="$1"
[ -e "$file" ] && exit 0
umask 077
word() { od -An -N 32 -t x1 /dev/urandom | tr -d ' \n'; }
# Written under another name, then linked: a truncated file would count as written.
new="$file.new.$$"
{
  echo "# Written by \`make up\`. .env.example says what each is and what else can be set. Keep it: it opens the data."
  for name in POSTGRES_PASSWORD DAGSTER_POSTGRES_PASSWORD MLFLOW_POSTGRES_PASSWORD STORE_SECRET_KEY RAY_AUTH_TOKEN; do
    value="$(word)"
    [ "${#value}" -eq 64 ] || { echo "A password must be 64 digits, got ${#value} ($name). Is /dev/urandom there?" >&2; exit 1; }
    echo "$name=$value"
  done
} >"$new"
# `ln` does not replace: of two that write at once, one wins.
if ln "$new" "$file" 2>/dev/null; then
  echo "Wrote $file with new random passwords"
fi
rm -f "$new"
[ -e "$file" ] || { echo "Passwords must be kept in a file, got none ($file). Can hard links be made in its folder?" >&2; exit 1; }
