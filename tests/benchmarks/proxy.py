"""`python -m tests.benchmarks.proxy`: a line with a latency and a speed between two ports.

What comes back shares one line; a connection that is not read waits, as it does anywhere. Ends with
the most connections that were open at once, on stdout.
"""

import argparse
import asyncio
import signal
from collections import deque
from dataclasses import dataclass, field

_BUFFER_BYTES = 1 << 16  # on the way, for each connection
_PIECE_BYTES = 1 << 13


@dataclass
class Line:
    """One speed for all who send."""

    bytes_per_s: float
    latency_s: float
    free_at_s: float = 0.0
    open: set[object] = field(default_factory=set)
    most: int = 0

    def arrives_at_s(self, size_bytes: int, now_s: float) -> float:
        """When so many bytes, sent now, are there."""
        self.free_at_s = max(self.free_at_s, now_s) + size_bytes / self.bytes_per_s
        return self.free_at_s + self.latency_s


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: Line) -> None:
    """One direction of one connection."""
    loop = asyncio.get_running_loop()
    under_way: deque[tuple[float, bytes]] = deque()
    changed = asyncio.Condition()
    ended = False

    async def receive() -> None:
        nonlocal ended
        while piece := await reader.read(_PIECE_BYTES):
            # The next piece is taken when this one has left: others share the line meanwhile.
            arrives_s = line.arrives_at_s(len(piece), loop.time())
            async with changed:
                under_way.append((arrives_s, piece))
                changed.notify_all()
            await asyncio.sleep(max(0.0, arrives_s - line.latency_s - loop.time()))
        ended = True
        async with changed:
            changed.notify_all()

    async def deliver() -> None:
        while True:
            async with changed:
                await changed.wait_for(lambda: under_way or ended)
                if not under_way:
                    break
                arrives_s, piece = under_way.popleft()
            await asyncio.sleep(max(0.0, arrives_s - loop.time()))
            writer.write(piece)
            await writer.drain()
        writer.close()

    await asyncio.gather(receive(), deliver())


async def _serve(port: int, to: int, latency_s: float, bytes_per_s: float) -> None:
    down = Line(bytes_per_s, latency_s / 2)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        down.open.add(writer)
        down.most = max(down.most, len(down.open))
        try:
            up = Line(bytes_per_s, latency_s / 2)  # requests are small: each has its own
            behind_reader, behind_writer = await asyncio.open_connection(
                "127.0.0.1", to, limit=_BUFFER_BYTES
            )
            await asyncio.gather(
                _carry(reader, behind_writer, up), _carry(behind_reader, writer, down)
            )
        except OSError:
            writer.close()
        finally:
            down.open.discard(writer)

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.start_server(connected, "127.0.0.1", port)
    await stop.wait()
    server.close()
    print(down.most, flush=True)


def main() -> None:
    """Carry until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", type=int, required=True)
    parser.add_argument("--latency-s", type=float, required=True)
    parser.add_argument("--bytes-per-s", type=float, required=True)
    args = parser.parse_args()
    asyncio.run(_serve(args.port, args.to, args.latency_s, args.bytes_per_s))


if __name__ == "__main__":
    main()
