// The chat's events on today's Socket.IO, as one would write them: a grid in memory, one emit to the list of hearers, the
// token verified once a connection. Stores nothing. PORT, JWT_SECRET; prints "listening on 127.0.0.1:PORT" when it is ready.
'use strict';

const crypto = require('crypto');
const http = require('http');

const jwt = require('jsonwebtoken');
const { Server } = require('socket.io');

const { Grid } = require('./grid');

const { PORT = '9013', JWT_SECRET } = process.env;
if (!JWT_SECRET) {
  console.error('JWT_SECRET must be set: the secret that tokens are signed with');
  process.exit(1);
}
const SECRET = crypto.createSecretKey(Buffer.from(JWT_SECRET));

const server = http.createServer((request, response) => response.end('socket.io'));
const io = new Server(server, { serveClient: false });
const grid = new Grid();
let messages = 0;

io.on('connection', (socket) => {
  let known = null;
  let user = null;
  const identify = (token) => {
    if (token === known) return user;
    user = jwt.verify(token, SECRET, { algorithms: ['HS256'] });
    known = token;
    return user;
  };

  on(socket, 'store', (data, answer) => {
    const { idx } = identify(data.token);
    const radius = Number(data.radius);
    grid.put(socket.id, Number(data.position[0]), Number(data.position[1]), radius);
    answer({ status: 200, result: { idx, radius } });
  });

  on(socket, 'save_msg', (data, answer) => {
    const author = identify(data.token);
    const said = data.messageData;
    const [lng, lat] = [Number(said.lng), Number(said.lat)];
    messages += 1;
    const result = {
      idx: messages,
      user: { idx: author.idx, nickname: author.nickname || `user-${author.idx}`, avatar: author.avatar || null, anonymity: false },
      position: { type: 'Point', coordinates: [lng, lat] },
      type: said.type,
      like_count: 0,
      likes: [],
      contents: said.contents,
      created_at: new Date(),
    };
    const body = { status: 201, message: 'Save Message Successfully', result };
    answer(body);

    const hearers = grid.hearers(lng, lat);
    if (!hearers.includes(socket.id)) hearers.push(socket.id);
    io.to(hearers).emit('new_msg', body);

    if (said.type !== 'LoudSpeaker') return;
    const near = grid.within(lng, lat, Number(data.radius) || 500).filter((id) => id !== socket.id);
    if (near.length > 0) io.to(near).emit('speaker', result);
  });

  socket.on('disconnect', () => grid.remove(socket.id));
});

/// What the handler throws is told in the ack, or as `exception` where none was asked for.
function on(socket, event, handler) {
  socket.on(event, (data, ack) => {
    const answer = typeof ack === 'function' ? ack : () => {};
    try {
      handler(data, answer);
    } catch (error) {
      const body = { status: 401, message: error.message };
      if (typeof ack === 'function') ack(body);
      else socket.emit('exception', body);
    }
  });
}

server.listen(Number(PORT), '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));
process.on('SIGTERM', () => process.exit(0));
