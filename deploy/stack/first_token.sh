#!/bin/bash
# Add a token to the service and show it, unless it has one; only its digest is kept. `make up` calls it.
set -euo pipefail

[ ! -e "$LUNA_SERVICE_DIR/tokens.json" ] || exit 0
echo "Token of the service, shown only now (docs/how_to/operate.md):"
luna token add first
