// Where the time of a message goes: how often each stage was gone through and how long it took, at GET /metrics in Prometheus's
// text format, named as dna names its own. Two clock reads and a sum a stage, so that it may stay on.
'use strict';

const { performance } = require('perf_hooks');

const BOUNDS = [0.00001, 0.0001, 0.001, 0.01, 0.1, 1];
const stages = new Map();

function add(name, milliseconds) {
  let stage = stages.get(name);
  if (!stage) stages.set(name, stage = { sum: 0, buckets: new Array(BOUNDS.length + 1).fill(0) });
  const seconds = milliseconds / 1000;
  stage.sum += seconds;
  const bound = BOUNDS.findIndex((most) => seconds <= most);
  stage.buckets[bound === -1 ? BOUNDS.length : bound] += 1;
}

/// A clock whose laps are stages of one message.
exports.clock = () => {
  let last = performance.now();
  return (name) => {
    const now = performance.now();
    add(name, now - last);
    last = now;
  };
};

/// From now on each call of this method is timed as a stage.
exports.watch = (object, method, name) => {
  const call = object[method];
  object[method] = function watched(...values) {
    const start = performance.now();
    const result = call.apply(this, values);
    add(name, performance.now() - start);
    return result;
  };
};

exports.metrics = () => {
  let text = '';
  for (const [name, { sum, buckets }] of stages) {
    const metric = `dna2018_stage_${name}_seconds`;
    text += `# TYPE ${metric} histogram\n`;
    let count = 0;
    buckets.forEach((more, place) => {
      count += more;
      text += `${metric}_bucket{le="${place < BOUNDS.length ? BOUNDS[place] : '+Inf'}"} ${count}\n`;
    });
    text += `${metric}_sum ${sum}\n${metric}_count ${count}\n`;
  }
  return text;
};
