// Messages, kept. The original had MongoDB, and for its load test a second database with a connection of its own; here a
// Redis list in database 0, and one in database 1 for test traffic. Nothing reaches a disk.
'use strict';

const redis = require('redis');

let live;
let test;

exports.connect = async (port) => {
  [live, test] = await Promise.all([0, 1].map((db) => new Promise((resolve, reject) => {
    const client = redis.createClient({ host: '127.0.0.1', port: Number(port), db });
    client.on('error', (error) => {
      console.error(error);
      reject(error);
    });
    client.on('ready', () => resolve(client));
  })));
};

/// Stored under the next number of its world when this resolves: the message as everyone is told.
exports.save = async (user, point, said, isTest) => {
  const client = isTest ? test : live;
  const idx = await new Promise((resolve, reject) => {
    client.incr('seq', (error, next) => (error ? reject(error) : resolve(next)));
  });
  const message = {
    idx,
    user: { idx: user.idx, nickname: user.nickname, avatar: user.avatar, anonymity: user.anonymity ? 1 : 0 },
    position: { type: 'Point', coordinates: point },
    type: said.type || 'Message',
    like_count: 0,
    likes: [],
    contents: said.contents,
    created_at: new Date(),
  };
  await new Promise((resolve, reject) => {
    client.rpush('message', JSON.stringify(message), (error) => (error ? reject(error) : resolve()));
  });
  return message;
};
