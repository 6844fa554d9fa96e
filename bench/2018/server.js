// The socket server of 2018, as its journal and a reading of the original describe it: README.md says what is whose.
// PORT, REDIS_PORT, JWT_SECRET. Prints "listening on 127.0.0.1:PORT" when it is ready.
'use strict';

const crypto = require('crypto');
const http = require('http');

const express = require('express');
const jwt = require('jsonwebtoken');
const socketio = require('socket.io');

const messages = require('./messages');
const sessions = require('./sessions');
const stages = require('./stages');

const { PORT = '9013', REDIS_PORT = '6379', JWT_SECRET } = process.env;
if (!JWT_SECRET) {
  console.error('JWT_SECRET must be set: the secret that tokens are signed with');
  process.exit(1);
}

// As a key: given text, today's jsonwebtoken first tries at each token whether it is a public key.
const SECRET = crypto.createSecretKey(Buffer.from(JWT_SECRET));

const app = express();
app.get('/', (request, response) => {
  response.send('<!doctype html><title>DNA</title><h1>Dear, Nearby Anyone</h1>');
});
app.get('/metrics', (request, response) => {
  response.type('text/plain').send(stages.metrics());
});
const server = http.createServer(app);
// The original's heartbeat.
const io = socketio(server, { pingInterval: 3000, pingTimeout: 5000 });

io.on('connection', (socket) => {
  on(socket, 'store', async (data) => {
    const user = identify(data.token);
    const session = {
      socket: socket.id,
      nickname: data.nickname || user.nickname,
      avatar: data.avatar || user.avatar,
      position: [coordinate(data.position[0], 180), coordinate(data.position[1], 90)],
      radius: Number(data.radius),
      anonymity: data.anonymity ? 1 : 0,
    };
    await sessions.put(user.idx, session);
    return { status: 200, result: { idx: user.idx, radius: session.radius } };
  });

  on(socket, 'save_msg', async (data, answer) => {
    const lap = stages.clock();
    const user = identify(data.token);
    const said = data.messageData;
    const point = [coordinate(said.lng, 180), coordinate(said.lat, 90)];
    lap('parse');
    const result = await messages.save(user, point, said, Boolean(user.test || said.test || data.testing));
    const body = { status: 201, message: 'Save Message Successfully', result };
    lap('commit');
    answer(body);
    lap('answer');

    const everyone = await sessions.all(lap);
    // Whose circle holds the place; the writer always. Several rooms in one emit are encoded once.
    let hearers = io.to(socket.id);
    for (const session of everyone.values()) {
      if (sessions.hears(session, point)) hearers = hearers.to(session.socket);
    }
    lap('match');
    hearers.emit('new_msg', body);
    lap('write');

    if (said.type !== 'LoudSpeaker') return;
    const near = await sessions.within(point, Number(data.radius) || 500);
    let alerted = null;
    for (const idx of near) {
      const session = everyone.get(idx);
      if (session && session.socket !== socket.id) alerted = (alerted || io).to(session.socket);
    }
    if (alerted) alerted.emit('speaker', result);
    lap('alert');
  });

  socket.on('disconnect', () => {
    sessions.remove(socket.id).catch((error) => console.error(error));
  });
});

/// An event whose object may come as a JSON string, as Android sends it. What the handler returns, or gives to its second
/// argument first, is the ack; what it throws is told in the ack, or as `exception` where none was asked.
function on(socket, event, handler) {
  socket.on(event, async (argument, ack) => {
    let answered = false;
    const answer = (body) => {
      answered = true;
      if (typeof ack === 'function') ack(body);
    };
    try {
      const data = typeof argument === 'string' ? JSON.parse(argument) : argument;
      const body = await handler(data, answer);
      if (body) answer(body);
    } catch (error) {
      const body = { status: error.status || 500, message: error.message };
      if (answered) console.error(`${event}, after its answer:`, error);
      else if (typeof ack === 'function') ack(body);
      else socket.emit('exception', body);
    }
  });
}

function identify(token) {
  try {
    return jwt.verify(token, SECRET, { algorithms: ['HS256'] });
  } catch (error) {
    throw Object.assign(error, { status: 401 });
  }
}

function coordinate(value, limit) {
  const number = Number(value);
  if (!(Math.abs(number) <= limit)) throw Object.assign(new Error(`${value} is no coordinate`), { status: 400 });
  return number;
}

Promise.all([sessions.connect(REDIS_PORT), messages.connect(REDIS_PORT)]).then(() => {
  server.listen(Number(PORT), '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));
}, (error) => {
  console.error(`Redis on port ${REDIS_PORT}: ${error.message}`);
  process.exit(1);
});

process.on('SIGTERM', () => process.exit(0));
