"""Files of the page at ``/``: HTML, style and script, without a build step."""
