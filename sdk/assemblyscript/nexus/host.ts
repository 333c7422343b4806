// What a plugin may ask the gateway. A module imports only what its code uses; each is a capability that the manifest
// asks for. Names and values are strings or Bytes.

import {
  HTTP_BODY, HTTP_HEADER, HTTP_METHOD, HTTP_STATUS, HTTP_URL, IN_HEADER, IN_ID, IN_MODEL, IN_PRINCIPAL, IN_PRINCIPAL_LABEL, IN_ROUTE,
  IN_TEAM, IN_TENANT, IN_TIER, RECORD_HEADER,
} from "./abi";
import { Bytes, NONE, bytes } from "./bytes";
import { Reader, Records } from "./records";

// @ts-ignore: decorator
@external("nexus", "log") declare function hostLog(ptr: usize, n: i32): void;
// @ts-ignore: decorator
@external("nexus", "label_get") declare function hostLabelGet(name: usize, names: i32, out: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("nexus", "label_set") declare function hostLabelSet(name: usize, names: i32, value: usize, values: i32): void;
// @ts-ignore: decorator
@external("nexus", "call_get") declare function hostCallGet(id: i32, name: usize, names: i32, out: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("nexus", "model_set") declare function hostModelSet(ptr: usize, n: i32): void;
// @ts-ignore: decorator
@external("nexus", "pool_set") declare function hostPoolSet(ptr: usize, n: i32): void;
// @ts-ignore: decorator
@external("nexus", "kv_get") declare function hostKVGet(key: usize, keys: i32): i64;
// @ts-ignore: decorator
@external("nexus", "kv_incr_if") declare function hostKVIncrIf(key: usize, keys: i32, amount: i64, limit: i64, ttl: i64): i64;
// @ts-ignore: decorator
@external("nexus", "vault_put") declare function hostVaultPut(value: usize, values: i32, token: usize, tokens: i32): void;
// @ts-ignore: decorator
@external("nexus", "metric") declare function hostMetric(name: usize, names: i32, amount: f64): void;
// @ts-ignore: decorator
@external("nexus", "now_ms") declare function hostNowMS(): i64;
// @ts-ignore: decorator
@external("nexus", "random") declare function hostRandom(ptr: usize, n: i32): void;
// @ts-ignore: decorator
@external("nexus", "http_call") declare function hostHTTPCall(ptr: usize, n: usize, out: usize, cap: i32): i32;

/** Writes one bounded line to the gateway's log; capability log. It must never hold a caller's text. */
export function log<T>(line: T): void {
  const b = bytes(line);
  hostLog(b.ptr, b.length);
}

/** What this or an earlier plugin said of the call under a name; capability label_get. */
export function label<N>(name: N): Bytes {
  const b = bytes(name);
  let cap = FIRST_TRY;
  let out = heap.alloc(cap);
  let n = hostLabelGet(b.ptr, b.length, out, cap);
  if (n > cap) {
    cap = n;
    out = heap.alloc(cap);
    n = min(hostLabelGet(b.ptr, b.length, out, cap), cap);
  }
  return n < 0 ? NONE : new Bytes(out, n);
}

// Most answers are short; one that is not is asked for again.
const FIRST_TRY: i32 = 256;

/** Tells policy and log what the plugin found out; capability label_set. */
export function setLabel<N, V>(name: N, value: V): void {
  const n = bytes(name), v = bytes(value);
  hostLabelSet(n.ptr, n.length, v.ptr, v.length);
}

/** Something known of the call, for on_text, which is told of the text alone. */
export enum Fact {
  ID = IN_ID,
  Route = IN_ROUTE,
  Model = IN_MODEL,
  Principal = IN_PRINCIPAL,
  Tenant = IN_TENANT,
  Team = IN_TEAM,
  Tier = IN_TIER,
  PrincipalLabel = IN_PRINCIPAL_LABEL, // by name
  Header = IN_HEADER, // by name in lower case; capability headers
}

/** What is known of the call; the name is empty but for labels and headers. Capability call_get. */
export function known(fact: Fact, name: string = ""): Bytes {
  const b = bytes(name);
  let cap = FIRST_TRY;
  let out = heap.alloc(cap);
  let n = hostCallGet(fact, b.ptr, b.length, out, cap);
  if (n > cap) {
    cap = n;
    out = heap.alloc(cap);
    n = min(hostCallGet(fact, b.ptr, b.length, out, cap), cap);
  }
  return n < 0 ? NONE : new Bytes(out, n);
}

/** Chooses the request's model; capability model. */
export function setModel<T>(name: T): void {
  const b = bytes(name);
  hostModelSet(b.ptr, b.length);
}

/** Chooses the pool where policy names no target; capability pool. */
export function setPool<T>(name: T): void {
  const b = bytes(name);
  hostPoolSet(b.ptr, b.length);
}

/**
 * A counter's value, 0 when there is none; capability kv_get. Counters are the plugin's own, shared by all replicas of
 * the gateway.
 */
export function count<K>(key: K): i64 {
  const b = bytes(key);
  return hostKVGet(b.ptr, b.length);
}

/**
 * Adds to a counter and returns the new count; where that would pass the limit, nothing is added and -1 returned. A
 * counter lives for ttl milliseconds from when it was first added to. Capability kv_incr_if.
 */
export function countIf<K>(key: K, amount: i64, limit: i64, ttl: i64): i64 {
  const b = bytes(key);
  return hostKVIncrIf(b.ptr, b.length, amount, limit, ttl);
}

/**
 * Notes that token stands for value in this call: where the decision restores, the caller reads value where the answer
 * says token. Capability vault_put.
 */
export function vaultPut<V, T>(value: V, token: T): void {
  const v = bytes(value), t = bytes(token);
  hostVaultPut(v.ptr, v.length, t.ptr, t.length);
}

/** Adds to a counter that the manifest names under metrics; capability metric. */
export function addMetric(name: string, amount: f64): void {
  const b = bytes(name);
  hostMetric(b.ptr, b.length, amount);
}

/** The time in Unix milliseconds; capability now_ms. */
export function now(): i64 {
  return hostNowMS();
}

/** n random bytes; capability random. */
export function random(n: i32): Bytes {
  const ptr = heap.alloc(n);
  hostRandom(ptr, n);
  return new Bytes(ptr, n);
}

/** An HTTPRequest is sent by http. */
export class HTTPRequest {
  method: string = "GET";
  body: Bytes = NONE;
  readonly headers: Array<string> = [];

  constructor(public url: string) {}

  header(name: string, value: string): void {
    this.headers.push(name);
    this.headers.push(value);
  }

  /** What all of it takes as records, at most: a character is no more than three bytes. */
  private size(): usize {
    let n: usize = <usize>this.body.length + 3 * <usize>(this.method.length + this.url.length) + 3 * RECORD_HEADER;
    for (let i = 0; i < this.headers.length; i++) n += 3 * <usize>this.headers[i].length + RECORD_HEADER;
    return n;
  }

  write(): Records {
    const size = this.size();
    const w = new Records(heap.alloc(size), size);
    w.add(HTTP_METHOD, "", this.method);
    w.add(HTTP_URL, "", this.url);
    for (let i = 0; i + 1 < this.headers.length; i += 2) w.add(HTTP_HEADER, this.headers[i], this.headers[i + 1]);
    if (this.body.length > 0) w.add(HTTP_BODY, "", this.body);
    return w;
  }
}

/** An HTTPResponse is what came back. */
export class HTTPResponse {
  /** 0: there was no answer in time, or too much of one. */
  status: i32 = 0;
  /** The configuration does not let the plugin ask there. */
  denied: bool = false;
  body: Bytes = NONE;

  constructor(private readonly at: usize, private readonly size: i32) {
    const r = new Reader(at, at + size);
    while (r.next()) {
      if (r.id == HTTP_BODY) this.body = r.value;
      if (r.id == HTTP_STATUS) for (let i = 0; i < r.value.length; i++) this.status = this.status * 10 + (r.value.at(i) - 0x30);
    }
  }

  /** A header of the answer. */
  header(name: string): Bytes {
    const wanted = Bytes.of(name);
    const r = new Reader(this.at, this.at + this.size);
    while (r.next()) if (r.id == HTTP_HEADER && r.name.is(wanted)) return r.value;
    return NONE;
  }
}

// The most that an answer may be, in bytes.
const ANSWER_CAP: i32 = 64 << 10;

/** Asks another server, one that the configuration allows, on the time of the call; capability http_call. */
export function http(request: HTTPRequest): HTTPResponse {
  const question = request.write();
  const out = heap.alloc(ANSWER_CAP);
  const n = hostHTTPCall(question.ptr, question.used, out, ANSWER_CAP);
  const response = new HTTPResponse(out, n < 0 || n > ANSWER_CAP ? 0 : n);
  response.denied = n == -2;
  return response;
}
