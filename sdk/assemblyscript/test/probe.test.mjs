import assert from "node:assert/strict"
import test from "node:test"
import { Host, Plugin, Refusal, build } from "#harness"

const probe = build(new URL("../probe", import.meta.url))
const plugin = (config, host) => new Plugin(probe, config, host)

test("configure", () => {
  const host = new Host()
  plugin({ log: true }, host)
  assert.deepEqual(host.lines, ["probe ready", "probe ready"], "of two instances")
  const tests = [
    [{ word: "" }, "word must be a text of 1 to 64 bytes"], [{ word: "x".repeat(65) }, "word must be"], [{ with: 1 }, "with must be a text of up to 64 bytes"],
    [{ fail: "x" }, "fail must be true or false"], [{ log: null }, "log must be true or false"], [{ fail: true, log: true }, "asked to fail"], [{ other: 1 }, "unknown key other"],
  ]
  for (const [config, want] of tests) assert.throws(() => plugin(config, host), new RegExp(want))
  assert.equal(host.lines.length, 2)
})

test("text", () => {
  const host = new Host()
  const p = plugin({ word: "비밀", with: "" }, host)
  assert.equal(p.tryCuts({ context: 1 }, "이 비밀은 비 비비밀!trap 비").text, "이 은 비 비!trap 비")
  const q = plugin({}, host)
  for (const text of ["! secret", "!hel", "!", "secret!hold", "!holsecret"]) {
    assert.equal(q.tryCuts({ context: 1 }, text).text, text.replace("secret", "[WORD]"), text)
  }
  assert.equal(q.tryCuts({ context: 1 }, "!label secret").text, "!label [WORD]")
  assert.equal(host.labels.probe, "none")
  host.labels.seen = "gpt"
  q.try({ context: 1 }, "!la", "bel")
  assert.equal(host.labels.probe, "gpt")
  const wrong = [["!trap", WebAssembly.RuntimeError], ["!fail", /asked to fail/], ["!refuse", Refusal], ["!hold", /holds 5 bytes/], ["!bad", /out of bounds/]]
  for (const [text, want] of wrong) assert.throws(() => plugin().try({ context: 1 }, ...text), want)
  assert.equal(q.try({}, "secret").text, "[WORD]", "a wrong edit is of one text alone")
})

const plain = { stream: "no", bytes: "no", turns: "0", choices: "0", images: "0", tool_count: "0", texts: "0", systems: "0", max_tokens: "-1" }

test("request", () => {
  const host = new Host()
  const p = plugin({}, host)
  const ask = (model, more = {}) => p.request({ model, ...more })
  assert.deepEqual(ask("", { stream: true, bytes: 3, turns: 1, choices: 2, images: 3, texts: 4, systems: 5, maxTokens: 6, tools: ["f", "g"] }).labels, {
    stream: "yes", bytes: "yes", turns: "1", choices: "2", images: "3", tool_count: "2", texts: "4", systems: "5", max_tokens: "6", tools: "f,g",
  })
  const refused = ask("refuse")
  assert.deepEqual([refused.refused, refused.status, refused.code, refused.message, refused.labels], [true, "402", "probe_refused", "asked to refuse", {}])
  assert.throws(() => ask("trap"), WebAssembly.RuntimeError)
  assert.throws(() => ask("fail"), /asked to fail/)
  const answered = ask("answer")
  assert.deepEqual([answered.answered, answered.text, answered.labels], [true, "hello from the probe", { seen: "answer", ...plain }])
  assert.equal(ask("switch").model, "other")
  assert.equal(ask("pool").pool, "other")
  assert.deepEqual(ask("system").system, { before: "Be brief." })
  const headers = ask("headers", { headers: { "x-ask": "why" } })
  assert.deepEqual([headers.headers, headers.dropHeaders, headers.requestHeaders], [{ "x-probe": "1" }, ["server"], { "x-probe-in": "why" }])
  ask("set")
  assert.deepEqual([host.model, host.pool], ["other", "other"])
})

test("what the host is asked", () => {
  const host = new Host()
  const p = plugin({}, host)
  const labels = (model) => p.request({ model }).labels
  assert.deepEqual(["count", "count", "count", "read"].map((m) => labels(m).count), ["1", "2", "full", "2"])
  const { known, asked, grade } = labels("known")
  assert.deepEqual([known, asked, grade], ["none", "none", "none"])
  Object.assign(host, { facts: { 4: "key-1" }, named: { "x-ask": "why", grade: "" }, now: 5 })
  const told = labels("known")
  assert.deepEqual([told.known, told.asked, told.grade], ["key-1", "why", ""])
  labels("vault")
  assert.deepEqual(host.vault, { "probe-token": "probe value" })
  labels("log")
  assert.deepEqual(host.lines, ["probe was asked"])
  assert.deepEqual([labels("time").time, labels("time").random], ["yes", "yes"])
  assert.equal(labels("http").http, "denied")
  host.answer = () => null
  assert.equal(labels("http").http, "no")
  host.answer = (q) => ({ status: 201, body: JSON.stringify(q) })
  const posted = labels("http")
  assert.deepEqual([posted.http, posted.said], ["201", '{"method":"POST","url":"https://probe.test/ask","headers":{"x-pr'])
})

test("reply", () => {
  const host = new Host()
  const p = plugin({}, host)
  assert.deepEqual([p.toolCall({ name: "drop" }).dropped, p.toolCall({ name: "drop" }).text], [true, "[dropped]"])
  assert.equal(p.toolCall({ name: "refuse" }).code, "probe_refused")
  assert.equal(p.toolCall({ name: "rewrite" }).arguments, '{"rewritten":true}')
  assert.throws(() => p.toolCall({ name: "trap" }), WebAssembly.RuntimeError)
  const passed = p.toolCall({ name: "other", arguments: "{}" })
  assert.deepEqual([passed.refused, passed.dropped, passed.arguments], [false, false, undefined])
  assert.equal(p.usage({ completion: 1000 }).refused, false)
  assert.deepEqual([p.usage({ completion: 1001 }).status, p.usage({ completion: 1001 }).code], ["429", "probe_usage"])
  p.end({ status: 200 })
  assert.deepEqual(host.metrics, { ended: 1 })
})

test("a module exports what the contract names and imports what it uses", () => {
  const names = (list) => list.map((x) => x.name).sort()
  const hooks = ["on_end", "on_request", "on_text", "on_tool_call", "on_usage"].map((h) => `nexus_${h}`)
  assert.deepEqual(names(WebAssembly.Module.exports(probe)), ["_initialize", "memory", "nexus_abi_1", "nexus_buffers", "nexus_configure", ...hooks])
  assert.deepEqual(names(WebAssembly.Module.imports(probe)), Object.keys(new Host().functions()).sort())
  const sample = build(new URL("../sample", import.meta.url))
  assert.deepEqual(WebAssembly.Module.imports(sample), [])
})
