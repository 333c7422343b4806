import assert from "node:assert/strict"
import test from "node:test"
import { Host, Plugin, Refusal, build } from "#harness"

const fixture = build(new URL("fixture", import.meta.url))
const plugin = (config, host) => new Plugin(fixture, config, host)

test("a text is looked at and edited", () => {
  const host = new Host()
  host.facts[5] = "acme"
  const p = plugin({}, host)
  const tests = [
    { trial: {}, pieces: ["axc"], want: "axc", kinds: [2] },
    { trial: { reply: true, role: 4, channel: 3 }, pieces: ["r"], want: "r431", kinds: [] },
    { trial: {}, pieces: ["l"], want: "l", kinds: [] },
    { trial: { lastUser: true }, pieces: ["l"], want: "last", kinds: [1] },
    { trial: { context: 4 }, pieces: ["ac나다", "z", "p"], want: "ac나다z다z", kinds: [] },
    { trial: {}, pieces: ["k"], want: "acme", kinds: [] },
    { trial: { maxHold: 2 }, pieces: ["am", "n", "c", ""], want: "amnc", kinds: [] },
  ]
  for (const { trial, pieces, want, kinds } of tests) {
    const got = p.try(trial, ...pieces)
    assert.deepEqual([got.text, got.kinds], [want, kinds], pieces.join("|"))
  }
  assert.deepEqual(host.lines, ["r"], "what the tool arguments were")
})

test("what the gateway would not believe is thrown", () => {
  const tests = [
    ["xo", /out of order/], ["b", /out of bounds/], ["f", /no reason given/], ["가", /cuts a character/], ["m", /holds 1 bytes/],
    ["+", /more edits than/], ["*", /more replacements than/], ["!", WebAssembly.RuntimeError], ["?", WebAssembly.RuntimeError], ["u", Refusal],
  ]
  for (const [text, want] of tests) assert.throws(() => plugin().try({}, text), want, text)
})

test("metadata is read and answered", () => {
  const host = new Host()
  host.labels.long = "x".repeat(1000) // longer than the first try
  const p = plugin({ a: 1 }, host)
  const call = { id: "1", route: "chat", model: "m", principal: "k", tenant: "t", team: "e", tier: "i", labels: { a: "A" }, principalLabels: { b: "B" }, headers: { c: "C" } }
  const s = p.request(call)
  assert.deepEqual(s.labels, { settings: "a:1=1 ", facts: "1,chat,m,k,t,e,i", labels: "ABC", absent: "yes", long: "1000", lone: "\ufffd" })
  assert.deepEqual(s.system, { after: "a", replace: "i" })
  assert.throws(() => p.request({ model: "much" }), /more said than the out buffer holds/)
  const tool = { ...call, stream: true, choice: 2, index: 1, callID: "c", name: "f", arguments: "{}" }
  assert.equal(p.toolCall(tool).text, "c f {} - s 21")
  assert.equal(p.toolCall({ ...tool, schema: "true" }).text, "c f {} true s 21")
  const used = { prompt: 1, completion: 2, cached: 3, reasoning: 2 ** 40, backend: "gpu" }
  assert.equal(p.usage(used).refused, false)
  const refused = p.usage({ ...used, final: true, estimated: true })
  assert.deepEqual([refused.status, refused.code, refused.message, refused.retry], ["429", "guessed", "1 2 3 1099511627776 gpu", "86400"])
  p.end({ ...used, status: 499, millis: 5, failure: "left" })
  p.end({ ...used, status: 200, millis: 5, first: 4, complete: true, stream: true })
  assert.deepEqual(host.lines, ["1 2 3 1099511627776 5 -1 499 gpu left", "1 2 3 1099511627776 5 4 200 complete stream gpu "])
})

/** Calls configure with what is no JSON either. */
function configured(json) {
  const exports = new WebAssembly.Instance(fixture, { nexus: new Host().functions(() => exports.memory) }).exports
  exports._initialize()
  const table = exports.nexus_buffers()
  const [ptr, , , , out] = new Uint32Array(exports.memory.buffer, table, 6)
  const text = new TextEncoder().encode(json)
  new Uint8Array(exports.memory.buffer).set(text, ptr)
  const word = exports.nexus_configure(text.length)
  if (word === 0n) return "ok"
  return new TextDecoder().decode(new Uint8Array(exports.memory.buffer, out, Number(word & 0xffffffffn)))
}

test("a configuration is read strictly", () => {
  const settings = (config) => plugin(config).request().labels.settings
  assert.equal(settings({}), "")
  assert.equal(settings({ a: "x\n\u00e9\"\\\u{1f600}", b: ["1", "2", ""], c: true, d: false, e: -1.5e30, f: null, g: [], h: -12, i: 0, j: 1234567890 }),
    "a:'x\n\u00e9\"\\\u{1f600}' b:[1|2|] c:true d:false e:-1.5e+30 f:null g:[] h:-12=-12 i:0=0 j:1234567890 ")
  for (const good of ["", " ", "{}", ' { "a" : [ "b" , "c" ] } ', '{"a":"\\ud83d\\ude00\\ud800\\u0041\\/\\b\\f\\n\\r\\t"}', '{"a":-0.5E-3,"b":10}']) {
    assert.equal(configured(good), "ok", good)
  }
  const bad = ["[]", "{", '{"a"}', '{"a":}', '{"a":1 "b":2}', '{"a":{}}', '{"a":[1]}', '{"a":["x",]}', '{"a":"x}', '{"a":"\\x"}', '{"a":"\\u12"}', '{"a":"\\u12g4"}',
    "{} x", '{"a":1,}', '{"a":01}', '{"a":1.}', '{"a":-}', '{"a":1e}', '{"a":+1}', '{"a":nul}', '{"a":tru', '{"a":"\n"}', '{"a":1,"a":2}', '{,"a":1}', "null", '"a"']
  for (const json of bad) assert.match(configured(json), /not a JSON object|must be a text|given twice/, json)
})

test("nothing that is written makes the reader trap, and what JSON.parse refuses it refuses", () => {
  let seed = 1
  const random = (n) => (seed = (seed * 1103515245 + 12345) % 2147483648) % n
  const parts = ["{", "}", "[", "]", '"', '"a"', '"b"', ":", ",", "1", "-", "0", ".5", "e9", "true", "null", "\\", "\\u00", "d8", " ", "é"]
  for (let i = 0; i < 20000; i++) {
    const inner = Array.from({ length: random(8) }, () => parts[random(parts.length)]).join("")
    const json = random(2) ? `{"k":${inner}}` : inner
    const said = configured(json)
    if (said !== "ok" || json.trim() === "") continue
    assert.doesNotThrow(() => JSON.parse(json), json)
  }
})

test("memory stands still, whatever the handlers allocate", () => {
  const p = plugin({ a: "b" })
  p.request({ model: "m" })
  p.try({ reply: true }, "rpk")
  const before = p.memory
  for (let i = 0; i < 100_000; i++) {
    if (i % 2) p.try({ reply: true }, "rpk")
    else p.request({ model: "m", tenant: "t" })
  }
  assert.equal(p.memory, before)
  assert.equal(p.request({}).labels.settings, "a:'b' ", "what configure allocated is still there")
})
