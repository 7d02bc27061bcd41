#!/usr/bin/env python
"""Starts Firefox for Playwright, which speaks WebDriver BiDi with it over a relay.

Playwright sends one command that Debian's Firefox (ESR) does not have yet, for the colour scheme of a new page. The
relay answers it; everything else is passed on. A preference sets the scheme instead, see ``browsers.py``.
"""

import asyncio
import json
import os
import re
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

MISSING_COMMAND = "emulation.setMediaFeaturesOverride"


async def main() -> int:
    """Run Firefox with this program's arguments; print the relay's address where Firefox prints its own."""
    firefox = await asyncio.create_subprocess_exec(
        os.environ["LUNA_TEST_FIREFOX"], *sys.argv[1:], stderr=asyncio.subprocess.PIPE
    )
    assert firefox.stderr is not None
    async for line in firefox.stderr:
        if found := re.search(rb"WebDriver BiDi listening on (ws://\S+)", line):
            server = await serve(_relay_to(found[1].decode()), "127.0.0.1", 0, max_size=None, compression=None)
            port = next(iter(server.sockets)).getsockname()[1]
            print(f"WebDriver BiDi listening on ws://127.0.0.1:{port}", file=sys.stderr, flush=True)
        else:
            print(line.decode(errors="replace"), end="", file=sys.stderr, flush=True)
    return await firefox.wait()


def _relay_to(address: str):
    async def relay(playwright: ServerConnection) -> None:
        async with connect(address + playwright.request.path, max_size=None, compression=None) as firefox:

            async def commands() -> None:
                async for message in playwright:
                    command = json.loads(message)
                    if command["method"] == MISSING_COMMAND:
                        await playwright.send(json.dumps({"type": "success", "id": command["id"], "result": {}}))
                    else:
                        await firefox.send(message)

            async def answers() -> None:
                async for message in firefox:
                    await playwright.send(message)

            tasks = [asyncio.create_task(commands()), asyncio.create_task(answers())]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()

    return relay


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
