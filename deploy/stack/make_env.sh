#!/bin/sh
# Write .env with random passwords, `make_env.sh FILE`; to a file of an older version, add those that it lacks. Needs a
# shell and /dev/urandom only.
set -eu
file="$1"
umask 077
word() { od -An -N 32 -t x1 /dev/urandom | tr -d ' \n'; }
# Written under another name first: a truncated file would count as written.
new="$file.new.$$"
trap 'rm -f "$new"' EXIT
is_there=""
[ ! -e "$file" ] || is_there=1
if [ -n "$is_there" ]; then
  cat "$file" >"$new"
  # The last line may lack its end.
  [ -z "$(tail -c 1 "$new")" ] || echo >>"$new"
else
  echo "# Written by \`make up\`. .env.example says what each is and what else can be set. Keep it: it opens the data." >"$new"
fi
added=""
for name in POSTGRES_PASSWORD DAGSTER_POSTGRES_PASSWORD MLFLOW_POSTGRES_PASSWORD JOBS_POSTGRES_PASSWORD \
  STORE_SECRET_KEY RAY_AUTH_TOKEN; do
  ! grep -q "^$name=" "$new" || continue
  value="$(word)"
  [ "${#value}" -eq 64 ] || { echo "A password must be 64 digits, got ${#value} ($name). Is /dev/urandom there?" >&2; exit 1; }
  echo "$name=$value" >>"$new"
  added="$added $name"
done
[ -n "$added" ] || exit 0
if [ -n "$is_there" ]; then
  mv "$new" "$file"
  echo "Added to $file:$added"
# `ln` does not replace: of two that write at once, one wins.
elif ln "$new" "$file" 2>/dev/null; then
  echo "Wrote $file with new random passwords"
fi
[ -e "$file" ] || { echo "Passwords must be kept in a file, got none ($file). Can hard links be made in its folder?" >&2; exit 1; }
