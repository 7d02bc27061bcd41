#!/bin/bash
# At PostgreSQL's first start, and by `make upgrade`: a database and a role for Dagster, for MLflow and for the service's
# jobs each; none can read another's. What is there is kept. Runs inside the container of the image `postgres`, whose
# entrypoint looks for it.
set -euo pipefail

for name in dagster mlflow jobs; do
  variable="${name^^}_POSTGRES_PASSWORD"
  # The password goes by standard input: arguments are seen by others, and a server may log statements.
  psql --quiet --username "${POSTGRES_USER:-postgres}" --dbname postgres --set ON_ERROR_STOP=1 \
    --set name="$name" --set password="${!variable}" <<'SQL'
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
SELECT format('CREATE ROLE %I LOGIN PASSWORD %L', :'name', :'password')
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name') \gexec
SELECT format('CREATE DATABASE %I OWNER %I', :'name', :'name')
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
done
