// The harness runs a plugin in Node as the gateway does, so that it is tested without one. It throws where the gateway
// would not believe the plugin.

import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { Records, head, readRecords } from "./records.mjs"

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** Builds the plugin in a folder, a path or a file URL, and returns it compiled. */
export function build(folder) {
  const dir = folder instanceof URL ? fileURLToPath(folder) : folder
  const script = join(dirname(fileURLToPath(import.meta.url)), "..", "build")
  const out = mkdtempSync(join(tmpdir(), "nexus-plugin-"))
  try {
    execFileSync(script, [dir, join(out, "plugin.wasm")], { stdio: ["ignore", "ignore", "inherit"] })
    return new WebAssembly.Module(readFileSync(join(out, "plugin.wasm")))
  } finally {
    rmSync(out, { recursive: true })
  }
}

/** A Host is the gateway as a plugin sees it. It knows what it is told, and remembers what it hears. */
export class Host {
  labels = {}
  facts = {} // by the number of call_get, those without a name: 4 is the principal, 5 the tenant, …
  named = {} // principal's labels and headers by name
  counters = {}
  vault = {} // token → value
  metrics = {}
  lines = [] // logged
  model = "" // chosen
  pool = "" // chosen
  now = 0 // Unix milliseconds
  answer = null // what http_call is answered: ({method, url, headers, body}) => ({status, headers, body}), or null when not

  /** The functions that a module may import; memory() is the guest's. */
  functions(memory) {
    const view = (ptr, n) => new Uint8Array(memory().buffer, ptr >>> 0, n >>> 0)
    const text = (ptr, n) => decoder.decode(view(ptr, n))
    const fill = (value, out, cap) => {
      if (value === undefined) return -1
      const b = typeof value === "string" ? encoder.encode(value) : value
      view(out, cap).set(b.subarray(0, cap >>> 0))
      return b.length
    }
    return {
      log: (p, n) => void this.lines.push(text(p, Math.min(n >>> 0, 512))),
      label_get: (p, n, out, cap) => fill(this.labels[text(p, n)], out, cap),
      label_set: (p, n, v, m) => {
        this.labels[short(text(p, n), 64)] = short(text(v, m), 256)
      },
      call_get: (id, p, n, out, cap) => fill(n === 0 ? this.facts[id] : this.named[text(p, n)], out, cap),
      model_set: (p, n) => void (this.model = text(p, n)),
      pool_set: (p, n) => void (this.pool = text(p, n)),
      kv_get: (p, n) => BigInt(this.counters[text(p, n)] ?? 0),
      kv_incr_if: (p, n, amount, limit) => this.#count(text(p, n), Number(amount), Number(limit)),
      vault_put: (v, m, p, n) => void (this.vault[text(p, n)] = text(v, m)),
      metric: (p, n, amount) => {
        const name = text(p, n)
        this.metrics[name] = (this.metrics[name] ?? 0) + amount
      },
      now_ms: () => BigInt(this.now),
      random: (p, n) => void view(p, n).forEach((_, i, b) => (b[i] = i * 167 + 13)), // the same every time
      http_call: (p, n, out, cap) => this.#ask(view(p, n).slice(), (b) => fill(b, out, cap)),
    }
  }

  #count(key, amount, limit) {
    const count = Math.max(0, (this.counters[key] ?? 0) + amount)
    if (count > limit) return -1n
    this.counters[key] = count
    return BigInt(count)
  }

  #ask(question, reply) {
    if (!this.answer) return -2
    const asked = { method: "GET", url: "", headers: {}, body: "" }
    for (const r of readRecords(question)) {
      if (r.id === 3) asked.headers[r.name] = r.value
      else asked[{ 1: "method", 2: "url", 4: "body" }[r.id]] = r.value
    }
    const got = this.answer(asked)
    if (!got) return -1
    const w = new Records().add(5, "", String(got.status))
    for (const [name, value] of Object.entries(got.headers ?? {})) w.add(3, name, value)
    return reply(w.add(4, "", got.body ?? "").bytes())
  }
}

function short(s, most) {
  if (encoder.encode(s).length > most) throw new Error(`${JSON.stringify(s)} has more than ${most} bytes`)
  return s
}

const known = new Set(["nexus_configure", "nexus_on_request", "nexus_on_text", "nexus_on_tool_call", "nexus_on_usage", "nexus_on_end"])

/** A Plugin is one that is loaded and configured. Two instances of it take turns: what one remembers, the other does not know. */
export class Plugin {
  #instances
  #turn = 0

  constructor(module, config = {}, host = new Host()) {
    this.host = host
    for (const e of WebAssembly.Module.exports(module)) {
      if (e.name.startsWith("nexus_on_") && !known.has(e.name)) throw new Error(`${e.name} is no hook`)
    }
    this.#instances = [0, 1].map(() => new Instance(module, config, host))
  }

  /** Bytes of memory that an instance has. */
  get memory() {
    return Math.max(...this.#instances.map((i) => i.memory))
  }

  #next() {
    return this.#instances[this.#turn++ % this.#instances.length]
  }

  /**
   * Runs on_text on one text that comes in pieces. The trial says what the manifest would, and what text it is:
   * {context, maxHold, reply, role, channel, lastUser}. Returns {text: what was let go, kinds: of edits and reports, held: the
   * most bytes held back at once}. A piece must not cut a character.
   */
  try(trial, ...pieces) {
    const state = { past: new Uint8Array(), held: new Uint8Array(), text: "", kinds: [], most: 0 }
    pieces.forEach((piece, i) => this.#feed(trial, state, encoder.encode(piece), i === pieces.length - 1))
    return { text: state.text, kinds: state.kinds, held: state.most }
  }

  /** Holds on_text to the law that what comes out does not depend on where a text is cut: whole, in two at every place, and in characters. */
  tryCuts(trial, text) {
    const whole = this.try(trial, text)
    const all = [...text]
    const cuts = all.map((_, i) => [all.slice(0, i).join(""), all.slice(i).join("")])
    for (const pieces of [...cuts, all, [...all, ""]]) {
      const cut = this.try(trial, ...pieces)
      if (cut.text !== whole.text || String(cut.kinds) !== String(whole.kinds)) {
        throw new Error(`cut into ${JSON.stringify(pieces)} it comes out as ${JSON.stringify(cut)}, but whole as ${JSON.stringify(whole)}`)
      }
    }
    return whole
  }

  #feed(trial, state, piece, final) {
    const now = join2(state.held, piece)
    if (now.length === 0) return // nothing to ask about
    const maxHold = trial.maxHold ?? 256
    const flags =
      (trial.reply ? 1 : 0) | (final ? 2 : 0) | (trial.lastUser ? 8 : 0) | ((trial.role ?? 0) << 4) | ((trial.channel ?? 0) << 8) | (state.past.length << 16)
    const asked = join2(state.past, now)
    let r = this.#next().call("nexus_on_text", asked, flags)
    if (r.verdict === 0 && r.hold > maxHold) r = this.#next().call("nexus_on_text", asked, flags | 4)
    if (r.verdict === 1) throw new Refusal(said(r))
    if (r.verdict !== 0) throw new Error(`the verdict ${r.verdict} means nothing here`)
    if (r.hold > now.length || r.hold > maxHold || (final && r.hold > 0)) {
      throw new Error(`the plugin holds ${r.hold} bytes of ${now.length}${final ? " at the end" : ""}`)
    }
    release(trial, state, now, now.length - r.hold, r)
  }

  /** Runs on_request on {stream, choices, turns, images, texts, bytes, systems, maxTokens, id, route, model, …, labels, principalLabels, headers, tools}. */
  request(call = {}) {
    const h = head(44).u32(4, call.stream ? 1 : 0).u32(8, call.choices).u32(12, call.turns).u32(16, call.images).u32(20, call.tools?.length)
    h.u32(24, call.texts).u32(28, call.bytes).u64(32, call.maxTokens ?? -1).u32(40, call.systems)
    const w = new Records(h).known(call)
    for (const name of call.tools ?? []) w.add(10, "", name)
    for (const [name, value] of Object.entries(call.headers ?? {})) w.add(11, name, value)
    return this.#judge("nexus_on_request", w, 2)
  }

  /** Runs on_tool_call on a call and {choice, index, callID, name, arguments, schema}. */
  toolCall(call) {
    const h = head(16).u32(4, call.stream ? 1 : 0).u32(8, call.choice).u32(12, call.index)
    const w = new Records(h).known(call).add(12, "", call.callID ?? "").add(13, "", call.name ?? "").add(14, "", call.arguments ?? "")
    if (call.schema) w.add(15, "", call.schema)
    const s = this.#judge("nexus_on_tool_call", w, 3)
    if (s.arguments !== undefined) JSON.parse(s.arguments)
    return s
  }

  /** Runs on_usage on a call and {final, estimated, prompt, completion, cached, reasoning, backend}. */
  usage(used) {
    const h = head(40).u32(4, (used.final ? 1 : 0) | (used.estimated ? 2 : 0))
    return this.#judge("nexus_on_usage", new Records(h.tokens(8, used)).known(used), 0)
  }

  /** Runs on_end on a call, its usage and {complete, status, millis, first, failure}. */
  end(ended) {
    const h = head(64).u32(4, (ended.stream ? 1 : 0) | (ended.complete ? 2 : 0)).u32(8, ended.status).tokens(16, ended)
    h.u64(48, ended.millis).u64(56, ended.first ?? -1)
    const w = new Records(h).known(ended)
    if (ended.failure) w.add(17, "", ended.failure)
    this.#next().call("nexus_on_end", w.bytes())
  }

  #judge(hook, w, own) {
    const r = this.#next().call(hook, w.bytes())
    if (r.verdict > 1 && r.verdict !== own) throw new Error(`the verdict ${r.verdict} means nothing here`)
    return said(r)
  }
}

/** A Refusal is thrown where a text is refused; said has status, code and message. */
export class Refusal extends Error {
  constructor(said) {
    super(`the plugin refused: ${said.message ?? ""}`)
    this.said = said
  }
}

const outs = { 3: "model", 4: "status", 5: "code", 6: "message", 7: "arguments", 8: "text", 9: "pool", 13: "retry" }
const namedOuts = { 1: "labels", 2: "headers", 10: "requestHeaders", 12: "system" }

/** What a hook said: {refused, answered, dropped, labels, headers, requestHeaders, dropHeaders, system, model, …}. */
function said(r) {
  const s = { refused: r.verdict === 1, answered: r.verdict === 2, dropped: r.verdict === 3 }
  Object.assign(s, { labels: {}, headers: {}, requestHeaders: {}, dropHeaders: [], system: {} })
  for (const { id, name, value } of readRecords(r.out.subarray(0, r.hold))) {
    if (id === 1) [short(name, 64), short(value, 256)]
    if (id === 11) s.dropHeaders.push(name)
    else if (namedOuts[id]) s[namedOuts[id]][name] = value
    else if (outs[id]) s[outs[id]] = value
    else throw new Error(`a record with the id ${id}`)
  }
  return s
}

/** Makes the edits on what is let go. */
function release(trial, state, now, end, r) {
  let last = 0 // where the last edit ends
  let at = 0 // what has been written
  const write = (b) => (state.text += decoder.decode(b)) // throws where a character is cut
  for (let i = 0; i < r.edits; i++) {
    const [start, stop, offset, length, kind] = [0, 4, 8, 12, 16].map((o) => r.edit.getUint32(i * 20 + o, true))
    if (start < last || stop < start || stop > end) throw new Error(`edit [${start}, ${stop}) is out of order, out of bounds or held`)
    if (!boundary(now, start) || !boundary(now, stop)) throw new Error(`edit [${start}, ${stop}) cuts a character`)
    if (kind !== 0) state.kinds.push(kind)
    last = stop
    if (length === 0xffffffff) continue
    if (offset + length > r.out.length) throw new Error(`edit [${start}, ${stop}) takes what is not in the out buffer`)
    write(now.subarray(at, start))
    write(r.out.subarray(offset, offset + length))
    at = stop
  }
  if (!boundary(now, end)) throw new Error("what is held cuts a character")
  write(now.subarray(at, end))
  state.most = Math.max(state.most, now.length - end)
  state.past = tail(join2(state.past, now.subarray(0, end)), trial.context ?? 0)
  state.held = now.slice(end)
}

const boundary = (b, i) => i === b.length || (b[i] & 0xc0) !== 0x80

/** At least the last n bytes, in whole characters. */
function tail(b, n) {
  let from = Math.max(0, b.length - n)
  while (from > 0 && !boundary(b, from)) from--
  return b.slice(from)
}

function join2(a, b) {
  const all = new Uint8Array(a.length + b.length)
  all.set(a)
  all.set(b, a.length)
  return all
}

/** An Instance is one guest and its buffers. */
class Instance {
  constructor(module, config, host) {
    const nexus = host.functions(() => this.exports.memory)
    this.exports = new WebAssembly.Instance(module, { nexus }).exports
    this.exports._initialize?.()
    if (!this.exports.nexus_abi_1) throw new Error("the plugin does not export nexus_abi_1")
    const table = new DataView(this.exports.memory.buffer, this.exports.nexus_buffers() >>> 0, 24)
    this.table = Array.from({ length: 6 }, (_, i) => table.getUint32(4 * i, true))
    if (this.exports.nexus_configure) this.call("nexus_configure", encoder.encode(JSON.stringify(config)))
  }

  get memory() {
    return this.exports.memory.buffer.byteLength
  }

  /** Calls a hook on what is put into the in buffer, and copies what it answers; the buffers are cleared. */
  call(hook, input, ...flags) {
    const [inPtr, inCap, editPtr, editCap, outPtr, outCap] = this.table
    const memory = (ptr, cap) => new Uint8Array(this.exports.memory.buffer, ptr, cap)
    if (!this.exports[hook]) throw new Error(`the plugin does not export ${hook}`)
    if (input.length > inCap) throw new Error("this does not fit into the in buffer")
    memory(inPtr, inCap).set(input)
    const word = this.exports[hook](input.length, ...flags) ?? 0n
    const r = { hold: Number(word & 0xffffffffn), verdict: Number((word >> 32n) & 0xffn), edits: Number((word >> 48n) & 0xffffn) }
    if (r.edits * 20 > editCap) throw new Error(`${r.edits} edits do not fit into the edit buffer`)
    r.edit = new DataView(memory(editPtr, r.edits * 20).slice().buffer)
    const failed = ((word >> 40n) & 0xffn) !== 0n
    const records = hook !== "nexus_on_text" || r.verdict !== 0 || failed // what hold counts, if not what is held
    if (records && r.hold > outCap) throw new Error("more said than the out buffer holds")
    r.out = memory(outPtr, records ? r.hold : r.edits > 0 ? outCap : 0).slice()
    memory(inPtr, input.length).fill(0)
    if (failed) throw new Error(`the plugin failed: ${decoder.decode(r.out)}`)
    return r
  }
}
