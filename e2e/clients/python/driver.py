"""python-socketio's client, told what to do and telling what it hears in lines of JSON (../README.md)."""

import asyncio
import base64
import json
import sys

import socketio

LONGEST_LINE = 1 << 24

sockets = {}
connecting = set()


def say(**line):
    print(json.dumps(line), flush=True)


async def open_socket(name, url, transports, events):
    socket = socketio.AsyncClient(reconnection_delay=0.05, reconnection_delay_max=0.25, randomization_factor=0)
    sockets[name] = socket
    socket.on("connect", lambda: say(name=name, on="connect"))
    socket.on("disconnect", lambda reason: say(name=name, on="disconnect", reason=reason))
    for event in events:
        socket.on(event, heard(name, event))
    # `connect` returns only when all is done; what else is asked must not wait for it.
    task = asyncio.create_task(socket.connect(url, transports=transports, wait_timeout=15))
    connecting.add(task)


def heard(name, event):
    return lambda *args: say(name=name, on="event", event=event, args=to_line(args))


async def emit(name, event, args, ack=None):
    def answered(*answer):
        say(name=name, on="ack", ack=ack, args=to_line(answer))

    await sockets[name].emit(event, tuple(from_line(args)), callback=None if ack is None else answered)


async def transport(name):
    say(name=name, on="transport", transport=sockets[name].transport())


def to_line(value):
    """Bytes stand in a line as {"$bytes": base64}."""
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, (list, tuple)):
        return [to_line(inner) for inner in value]
    if isinstance(value, dict):
        return {key: to_line(inner) for key, inner in value.items()}
    return value


def from_line(value):
    if isinstance(value, list):
        return [from_line(inner) for inner in value]
    if isinstance(value, dict):
        if "$bytes" in value:
            return base64.b64decode(value["$bytes"])
        return {key: from_line(inner) for key, inner in value.items()}
    return value


ACTIONS = {"open": open_socket, "emit": emit, "transport": transport}


async def main():
    lines = asyncio.StreamReader(limit=LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        what = json.loads(line)
        await ACTIONS[what.pop("action")](**what)


asyncio.run(main())
