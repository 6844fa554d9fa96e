"""python-socketio's client joins a room and counts what it hears; told in ../../js/witness.mjs. witness.py URL"""

import asyncio
import collections
import json
import sys

import socketio

LAST = "the last word"


async def main():
    client = socketio.AsyncClient(reconnection=False)
    heard = collections.Counter()
    last = asyncio.Event()

    @client.event
    def said(what):
        if what["text"] == LAST:
            last.set()
        else:
            heard[what["text"]] += 1

    await client.connect(sys.argv[1], transports=["websocket"])
    await client.call("join", "witness")
    print(json.dumps({"ready": True}), flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    await lines.read()
    await client.emit("say", {"text": LAST})
    await last.wait()
    print(json.dumps({"heard": heard}), flush=True)
    await client.disconnect()


asyncio.run(main())
