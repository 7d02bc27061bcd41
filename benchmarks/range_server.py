"""A fast web server for one file, with ranges: ``python -m benchmarks.range_server FILE [BYTES_PER_SECOND]``.

It prints its port. The limit holds for each connection, as servers on the internet have it; without one the kernel
sends the file itself.
"""

import asyncio
import re
import sys
from pathlib import Path

_RANGE = re.compile(rb"^range: *bytes=(\d+)-(\d+)", re.IGNORECASE | re.MULTILINE)
_STEP_SECONDS = 0.02


async def serve(path: Path, bytes_per_second: int | None) -> None:
    """Answer each request for any address with the file, or the range of it."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                await _answer(writer, path, _RANGE.search(request), bytes_per_second)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _answer(
    writer: asyncio.StreamWriter, path: Path, asked: re.Match[bytes] | None, bytes_per_second: int | None
) -> None:
    size = path.stat().st_size
    start, stop = (int(asked[1]), int(asked[2]) + 1) if asked else (0, size)
    status = f"206 Partial Content\r\nContent-Range: bytes {start}-{stop - 1}/{size}" if asked else "200 OK"
    writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {stop - start}\r\n\r\n".encode())
    await writer.drain()
    with path.open("rb") as file:
        if bytes_per_second is None:
            await asyncio.get_running_loop().sendfile(writer.transport, file, start, stop - start)
            return
        file.seek(start)
        step = max(1, int(bytes_per_second * _STEP_SECONDS))
        for place in range(start, stop, step):
            writer.write(file.read(min(step, stop - place)))
            await writer.drain()
            await asyncio.sleep(_STEP_SECONDS)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None))
