// How fast an answer came, and sizes and counts in words.

const UNITS = [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]];

// Times one answer, from the question to the last word.
export class Stopwatch {
  constructor() {
    this.asked = performance.now();
    this.accepted = null;
    this.first = null;
    this.pieces = 0;
  }

  accept() {
    this.accepted = performance.now();
  }

  piece() {
    this.first ??= performance.now();
    this.pieces += 1;
  }

  // A line for now, or with the server's own figures at the end.
  line(last = null, contextLength = null) {
    const parts = [];
    const rate = last ? last.timings?.predicted_per_second : this.liveRate();
    if (rate) parts.push(`${rate.toFixed(rate < 100 ? 1 : 0)} tokens/s`);
    if (this.first !== null) parts.push(`first token ${seconds(this.first - (this.accepted ?? this.asked))}`);
    const waited = (this.accepted ?? this.asked) - this.asked;
    if (waited > 1000) parts.push(`waited ${seconds(waited)}`);
    if (last) parts.push(used(last.usage, contextLength));
    return parts.join(" · ");
  }

  // A piece is about a token.
  liveRate() {
    const elapsed = performance.now() - this.first;
    return this.pieces > 4 && elapsed > 0 ? ((this.pieces - 1) * 1000) / elapsed : 0;
  }
}

function used(usage, contextLength) {
  const count = usage.total_tokens.toLocaleString("en");
  const of = contextLength ? ` of ${contextLength.toLocaleString("en")}` : "";
  return `${usage.completion_tokens.toLocaleString("en")} tokens · context ${count}${of}`;
}

function seconds(milliseconds) {
  return `${(milliseconds / 1000).toFixed(milliseconds < 9950 ? 2 : 0)} s`;
}

export function size(bytes) {
  const [unit, name] = UNITS.find(([least]) => bytes >= least) ?? [1, "B"];
  const value = bytes / unit;
  return `${value.toFixed(value < 10 && unit > 1 ? 1 : 0)} ${name}`;
}
