#!/bin/bash
# At PostgreSQL's first start: a database and a role for Dagster and for MLflow each; neither can read the other's.
# Runs inside the container of the image `postgres`, whose entrypoint looks for it.
set -euo pipefail

for name in dagster mlflow; do
  variable="${name^^}_POSTGRES_PASSWORD"
  # The password goes by standard input: arguments are seen by others, and a server may log statements.
  psql --quiet --username "${POSTGRES_USER:-postgres}" --dbname postgres --set ON_ERROR_STOP=1 \
    --set name="$name" --set password="${!variable}" <<'SQL'
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
done
