"""Exit code 0 when every model of the server in this container is ready, else 1: Docker's health check."""

from __future__ import annotations

import http.client
import os
import sys

if __name__ == "__main__":
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("DENSESCAN_HTTP_PORT", "8000")), timeout=4)
    try:
        connection.request("GET", "/v2/health/ready")
        sys.exit(connection.getresponse().status != http.HTTPStatus.OK)
    except (OSError, http.client.HTTPException):
        sys.exit(1)
