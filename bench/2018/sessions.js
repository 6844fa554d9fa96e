// Who is online, in Redis, so that several servers could share it: hash `client` (socket -> user), hash `info`
// (user -> session as JSON), sorted set `geo` (where users stand).
'use strict';

const redis = require('redis');

const stages = require('./stages');

const EARTH_RADIUS_M = 6371008.8;
const RADIANS = Math.PI / 180;

let client;

exports.connect = (port) => new Promise((resolve, reject) => {
  client = redis.createClient({ host: '127.0.0.1', port: Number(port) });
  client.on('error', (error) => {
    console.error(error);
    reject(error);
  });
  stages.watch(client.reply_parser, 'execute', 'replies');
  // Those of a server that ran before are gone.
  client.del('client', 'info', 'geo', (error) => (error ? reject(error) : resolve()));
});

/// Commands of one batch go to Redis in one write.
function run(batch) {
  return new Promise((resolve, reject) => {
    batch.exec((error, replies) => (error ? reject(error) : resolve(replies)));
  });
}

exports.put = (idx, session) => run(client.batch()
  .hset('client', session.socket, idx)
  .hset('info', idx, JSON.stringify(session))
  .geoadd('geo', session.position[0], session.position[1], idx));

exports.remove = async (socket) => {
  const [idx] = await run(client.batch().hget('client', socket));
  // Most users of a load test only write, and never stored a session.
  if (idx === null) return;
  await run(client.batch().hdel('client', socket).hdel('info', idx).zrem('geo', idx));
};

/// Every session there is, by user: one command a message, not one a session as the original had it.
exports.all = async (lap) => {
  const [info] = await run(client.batch().hgetall('info'));
  lap('read');
  const everyone = new Map(Object.keys(info || {}).map((idx) => [idx, JSON.parse(info[idx])]));
  lap('unpack');
  return everyone;
};

/// Users who stand within so many metres of a point.
exports.within = async ([lng, lat], radius) => {
  const [users] = await run(client.batch().georadius('geo', lng, lat, radius, 'm'));
  return users;
};

exports.hears = (session, point) => distance(session.position, point) <= session.radius;

/// Metres on a sphere (haversine).
function distance([lng1, lat1], [lng2, lat2]) {
  const north = Math.sin((lat2 - lat1) * RADIANS / 2);
  const east = Math.sin((lng2 - lng1) * RADIANS / 2);
  const a = north * north + Math.cos(lat1 * RADIANS) * Math.cos(lat2 * RADIANS) * east * east;
  return 2 * EARTH_RADIUS_M * Math.asin(Math.sqrt(a));
}
