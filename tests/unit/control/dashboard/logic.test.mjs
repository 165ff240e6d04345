// What the dashboard's modules compute, without a page. DASHBOARD is the folder of the modules.

import assert from "node:assert/strict";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

const load = (name) => import(`${pathToFileURL(process.env.DASHBOARD)}/${name}`);
const { EventParser, Follower } = await load("stream.js");
const { Loader } = await load("loader.js");
const decisions = await load("decisions.js");
const { steps, rowsOf, ticksTo, words: tripWords } = await load("waterfall.js");
const histogram = await load("histogram.js");
const { nextSort } = await load("routes.js");

const candidate = (region, edge, trips, rtt, compute = 3) => ({
  region, edge_rtt_ms: edge, compute_ms: compute, score_ms: edge + compute + trips * rtt,
  backends: [{ backend: "db", round_trips: trips, rtt_ms: rtt, product_ms: trips * rtt }],
});

const decision = (more = {}) => ({
  environment: "production", method: "read", route: "/orders", edge: "den", status: "placed",
  regions: ["bom", "den"], default: "den", trips: { source: "traffic", requests: 9, backends: [] },
  candidates: [candidate("bom", 229, 11, 0.5), candidate("den", 0, 11, 229)], ...more,
});

test("messages come whole, however the bytes are cut", () => {
  const text = "event: status\ndata: {\"a\":1}\n\n: quiet\n\nevent: event\r\nid: 7\r\ndata: x\r\ndata: y\r\n\r\ndata:z\r\r";
  const wanted = [
    { name: "status", data: "{\"a\":1}", id: null },
    { name: "event", data: "x\ny", id: "7" },
    { name: "message", data: "z", id: "7" },
  ];
  for (let size = 1; size <= text.length; size += 1) {
    const parser = new EventParser();
    const found = [];
    for (let at = 0; at < text.length; at += size) found.push(...parser.push(text.slice(at, at + size)));
    found.push(...parser.push("\n")); // a lone return at the very end may begin a pair
    assert.deepEqual(found, wanted, `pieces of ${size}`);
  }
});

test("a line that never ends is refused, and a message without data is none", () => {
  assert.throws(() => new EventParser().push("x".repeat(1_000_001)), RangeError);
  assert.deepEqual(new EventParser().push("event: status\nid: 4\n\n"), []);
});

/** Follow scripted attempts: each is a list of pieces, or an error. */
async function follow(attempts) {
  const seen = { opened: [], told: [], taken: [], slept: [] };
  await new Promise((resolve) => {
    const follower = new Follower({
      async open(lastId) {
        seen.opened.push(lastId);
        const next = attempts.shift();
        if (next instanceof Error) throw next;
        return (async function* pieces() { yield* next; })();
      },
      take: (message) => seen.taken.push(message.data),
      tell: (name) => seen.told.push(name),
      async sleep(ms) {
        seen.slept.push(ms);
        if (!attempts.length) { follower.stop(); resolve(); }
      },
    });
    follower.start();
    follower.start(); // once is enough
  });
  return seen;
}

const failure = (status) => Object.assign(new Error("no"), { status });

test("a stream that ends is taken up where it ended", async () => {
  const seen = await follow([["id: 5\ndata: a\n\n"], ["data: b\n\n", "id: 6\ndata: c\n\n"], []]);
  assert.deepEqual(seen.opened, [null, "5", "6"]);
  assert.deepEqual(seen.taken, ["a", "b", "c"]);
  assert.deepEqual(seen.told, ["live", "lost", "live", "lost", "live", "lost"]);
});

test("a node that is away is asked ever more seldom, one that refuses after a minute", async () => {
  const away = await follow([failure(0), failure(0), failure(0), failure(0), failure(0), failure(0)]);
  assert.deepEqual(away.slept, [1000, 2000, 4000, 8000, 15000, 15000]);
  const full = await follow([failure(503)]);
  assert.deepEqual([full.told, full.slept], [["refused"], [60000]]);
});

test("what is wanted while a round runs is asked for in the next one", async () => {
  const rounds = [];
  let loader = null;
  await new Promise((resolve) => {
    loader = new Loader(async (parts) => {
      rounds.push([...parts].sort());
      if (rounds.length === 1) loader.want("late");
    }, () => { if (rounds.length === 2) resolve(); });
    loader.want("a", "b");
    loader.want("b");
  });
  assert.deepEqual(rounds, [["a", "b"], ["late"]]);
});

test("a round that failed is told, and the next one is asked for all the same", async () => {
  const told = [];
  await new Promise((resolve) => {
    const loader = new Loader(async (parts) => { if (parts.has("bad")) throw new Error("down"); }, (error) => {
      told.push(error?.message ?? null);
      if (told.length === 1) loader.want("good");
      else resolve();
    });
    loader.want("bad");
  });
  assert.deepEqual(told, ["down", null]);
});

test("eleven long trips become one", () => {
  const d = decision();
  assert.equal(decisions.longTrips(d.candidates[1]), 11);
  assert.equal(decisions.longTrips(d.candidates[0]), 1);
  const { before, after, isMoved } = decisions.comparison(d);
  assert.deepEqual([before.region, after.region, isMoved], ["den", "bom", true]);
});

test("a route at its default is compared with the best other region, one without trips with none", () => {
  const { after, isMoved } = decisions.comparison(decision({ regions: ["den"] }));
  assert.deepEqual([after.region, isMoved], ["bom", false]);
  assert.equal(decisions.comparison(decision({ trips: { source: "none", requests: 3, backends: [] } })), null);
  assert.equal(decisions.comparison(decision({ candidates: [] })), null);
});

test("steps follow one another and add up to the score", () => {
  for (const [region, edge, trips, rtt] of [["den", 0, 11, 229], ["bom", 229, 6.2, 0.5], ["fra", 136, 500, 2]]) {
    const one = candidate(region, edge, trips, rtt);
    const found = steps(one);
    for (let i = 1; i < found.length; i += 1) {
      assert.ok(Math.abs(found[i].start - (found[i - 1].start + found[i - 1].length)) < 1e-6);
    }
    const last = found.at(-1);
    assert.ok(Math.abs(last.start + last.length - one.score_ms) < 1e-6, region);
    assert.ok(found.length <= 27, `${found.length} rows`);
  }
  assert.equal(steps(candidate("den", 0, 11, 229)).filter((s) => s.kind === "trip-0").length, 11);
});

test("long steps have a row each, short ones in a row share it", () => {
  const long = steps(candidate("den", 0, 3, 229));
  assert.deepEqual(rowsOf(long, 690), [0, 1, 2, 3]);
  const short = steps(candidate("bom", 229, 3, 0.5));
  assert.deepEqual(rowsOf(short, 690), [0, 1, 1, 1, 1]);
});

test("the trips are said in words", () => {
  assert.equal(tripWords(candidate("bom", 229, 11, 0.5)), "1 trip of 229 ms to bom, then 11 of 0.5 ms to db");
  assert.equal(tripWords(candidate("den", 0, 0, 1)), "no trip");
});

test("axes have round values", () => {
  assert.deepEqual(ticksTo(2522), [0, 1000, 2000]);
  assert.deepEqual(ticksTo(300), [0, 100, 200, 300]);
  assert.deepEqual(histogram.logTicks(Math.log10(150), Math.log10(4000)), [200, 500, 1000, 2000]);
  assert.deepEqual(histogram.logTicks(-1, 4), [0.1, 1, 10, 100, 1000, 10000]);
});

const spread = (saving, arms = ["placed", "control"]) => ({
  edges: ["den"], saving,
  arms: arms.map((arm) => ({ arm, requests: 40, mean_ms: 240, buckets: [{ above_ms: 223.9, le_ms: 251.2, requests: 40 }] })),
});
const saving = (mean, low, high) => ({ mean_ms: mean, low_ms: low, high_ms: high, confidence: 0.95, placed_requests: 412, control_requests: 38 });

test("the interval is said in words, and only what it shows", () => {
  const said = (row) => histogram.words(row).text;
  assert.equal(said(spread(saving(1900, 1800, 2000))), "Saves 1,900 ± 100 ms a request");
  assert.equal(histogram.words(spread(saving(1900, 1800, 2000))).note, "95 % interval, n = 412 placed vs 38 control");
  assert.equal(said(spread(saving(-20, -30, -10))), "Costs 20 ± 10 ms a request");
  assert.match(said(spread(saving(1, -30, 32))), /^No difference shown yet/);
  assert.equal(said(spread(saving(1900, null, null))), "Saves about 1,900 ms a request");
  assert.match(histogram.words(spread(null, ["placed"])).note, /^no control request yet/);
  assert.match(histogram.words(spread(null, ["default"])).note, /^nothing to compare/);
});

test("the histogram shows every bucket, and never less than half a decade", () => {
  const [low, high] = histogram.range(spread(saving(1, 0, 2)));
  assert.ok(10 ** low < 223.9 && 10 ** high > 251.2 && high - low >= 0.5);
  const last = { arm: "placed", requests: 1, mean_ms: 2e5, buckets: [{ above_ms: 1e5, le_ms: null, requests: 1 }] };
  assert.ok(histogram.range({ edges: [], saving: null, arms: [last] }).every(Number.isFinite));
});

test("rows are sorted by value either way, and what is not known comes last", () => {
  const rows = [3, null, 1, 2].map((v) => ({ v }));
  const order = (isDescending) => decisions.sortRows(rows, (row) => row.v, isDescending).map((row) => row.v);
  assert.deepEqual(order(false), [1, 2, 3, null]);
  assert.deepEqual(order(true), [3, 2, 1, null]);
  const first = nextSort({ column: "", isDescending: false }, "saving");
  assert.deepEqual(first, { column: "saving", isDescending: true });
  const second = nextSort(first, "saving");
  assert.deepEqual(second, { column: "saving", isDescending: false });
  assert.deepEqual(nextSort(second, "saving"), { column: "", isDescending: false });
});

test("events are kept once, newest first, and no more than a few", () => {
  const known = [{ id: 3 }, { id: 2 }, { id: 1 }];
  assert.deepEqual(decisions.mergeEvents(known, [{ id: 4 }, { id: 3 }], 3).map((e) => e.id), [4, 3, 2]);
});

test("a filter wants every word, in any order and case", () => {
  assert.ok(decisions.matches("/orders/{id} read den placed", "PLACED  orders"));
  assert.ok(decisions.matches("anything", ""));
  assert.ok(!decisions.matches("/orders", "orders fra"));
});

test("the flows are those of the chosen route, from every edge", () => {
  const regions = [{ id: "den", backends: [] }, { id: "bom", backends: ["db"] }];
  const stays = decision({ edge: "den", regions: ["den"] });
  assert.deepEqual(decisions.flowsOf([decision()], regions, decision()), [{ from: "den", to: "bom", trips: 1, kind: "forward" }]);
  assert.deepEqual(decisions.flowsOf([stays], regions, stays), [{ from: "den", to: "bom", trips: 11, kind: "query" }]);
});

test("an endpoint is the primary, fresh, late or silent", () => {
  const row = (more) => ({ endpoint: "db/a", is_primary: false, is_read: true, lag_ms: 40, problem: "", ...more });
  const said = (more) => { const { text, isWell } = decisions.standingOf(row(more)); return [text, isWell]; };
  assert.deepEqual(said({}), ["no lag", true]);
  assert.deepEqual(said({ lag_ms: 1234 }), ["1.2 s behind", true]);
  assert.deepEqual(said({ lag_ms: 64_000, is_read: false }), ["64 s behind, left out", false]);
  assert.deepEqual(said({ lag_ms: null }), ["lag unknown", true]);
  assert.deepEqual(said({ is_primary: true, lag_ms: 0 }), ["primary", true]);
  assert.deepEqual(said({ problem: "password" }), ["tells nothing", false]);
});
