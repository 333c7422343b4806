// Heads and records: how a host tells a plugin of a call, and how a plugin answers.

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** A head of n bytes, which begins with its own length. */
export function head(n) {
  return new Head(n).u32(0, n)
}

class Head {
  constructor(n) {
    this.view = new DataView(new ArrayBuffer(n))
  }

  u32(at, n = 0) {
    this.view.setUint32(at, n, true)
    return this
  }

  u64(at, n = 0) {
    this.view.setBigInt64(at, BigInt(n), true)
    return this
  }

  /** The four counts of usage, which stand in a row. */
  tokens(at, used) {
    return this.u64(at, used.prompt).u64(at + 8, used.completion).u64(at + 16, used.cached).u64(at + 24, used.reasoning)
  }
}

/** Records are written one behind the other, behind a head if there is one. */
export class Records {
  #parts = []

  constructor(first) {
    if (first) this.#parts.push(new Uint8Array(first.view.buffer))
  }

  add(id, name, value) {
    const [n, v] = [encoder.encode(name), encoder.encode(value)]
    const header = new DataView(new ArrayBuffer(8))
    header.setUint16(0, id, true)
    header.setUint16(2, n.length, true)
    header.setUint32(4, v.length, true)
    this.#parts.push(new Uint8Array(header.buffer), n, v)
    return this
  }

  /** What comes with every hook. */
  known(call) {
    const plain = [call.id, call.route, call.model, call.principal, call.tenant, call.team, call.tier]
    plain.forEach((value, i) => value && this.add(1 + i, "", value))
    for (const [name, value] of Object.entries(call.principalLabels ?? {})) this.add(8, name, value)
    for (const [name, value] of Object.entries(call.labels ?? {})) this.add(9, name, value)
    if (call.backend) this.add(16, "", call.backend)
    return this
  }

  bytes() {
    return new Uint8Array(Buffer.concat(this.#parts))
  }
}

/** The records that b holds: {id, name, value}. */
export function* readRecords(b) {
  const view = new DataView(b.buffer, b.byteOffset, b.byteLength)
  for (let at = 0; at < b.length; ) {
    if (b.length - at < 8) throw new Error("half a record")
    const name = at + 8 + view.getUint16(at + 2, true)
    const end = name + view.getUint32(at + 4, true)
    if (end > b.length) throw new Error("a record that does not end")
    yield { id: view.getUint16(at, true), name: decoder.decode(b.subarray(at + 8, name)), value: decoder.decode(b.subarray(name, end)) }
    at = end
  }
}
