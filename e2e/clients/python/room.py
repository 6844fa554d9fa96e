"""A room of python-socketio's asyncio server; what it does is told in ../../js/room.mjs. room.py [lose]"""

import asyncio
import json
import sys

import socketio
from aiohttp import web

loses = sys.argv[1:] == ["lose"]
io = socketio.AsyncServer(async_mode="aiohttp")
members = {}
lost = []
counted = {"said": 0, "deliveries": 0}


@io.event
async def join(sid, name):
    members[name] = sid
    await io.enter_room(sid, "room")
    return {"status": 200}


@io.event
async def say(sid, what):
    counted["said"] += 1
    if not loses:
        await io.emit("said", what, room="room")
        return {"status": 201}
    for name, member in members.items():
        if name != "witness":
            counted["deliveries"] += 1
            if counted["deliveries"] % 100 == 0:
                lost.append([name, what["text"]])
                continue
        await io.emit("said", what, to=member)
    return {"status": 201}


async def main():
    app = web.Application()
    io.attach(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    print(json.dumps({"port": site._server.sockets[0].getsockname()[1]}), flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    await lines.read()
    print(json.dumps({"said": counted["said"], "lost": lost}), flush=True)


asyncio.run(main())
