import { HEAD_FLAGS, IN_ID, IN_LABEL, IN_MODEL, IN_PRINCIPAL, IN_PRINCIPAL_LABEL, IN_ROUTE, IN_TEAM, IN_TENANT, IN_TIER, PASS, REFUSE, pack } from "./abi";
import { IN, IN_CAP, failed } from "./buffers";
import { Bytes, NONE } from "./bytes";
import { Reader, said } from "./records";

/** Facts are what the gateway tells of a call: a head of numbers and the records behind it. */
export class Facts {
  private head: u32 = 0; // bytes of it
  private size: u32 = 0; // of head and records

  /** Takes what the host has left in the in buffer; false: that is no head. */
  take(size: u32): bool {
    if (<usize>size > IN_CAP || size < 4) return false;
    const head = load<u32>(IN);
    if (head < 4 || head > size) return false;
    this.head = head;
    this.size = size;
    return true;
  }

  // A field that a host with a shorter head does not write is 0, or absent.

  protected number(at: u32): i32 {
    return at + 4 <= this.head ? load<i32>(IN + at) : 0;
  }

  protected long(at: u32, absent: i64): i64 {
    return at + 8 <= this.head ? load<i64>(IN + at) : absent;
  }

  protected flag(bit: u32): bool {
    return (<u32>this.number(HEAD_FLAGS) & bit) != 0;
  }

  protected records(): Reader {
    return new Reader(IN + this.head, IN + this.size);
  }

  protected value(id: u32): Bytes {
    const r = this.records();
    while (r.next()) if (r.id == id && r.name.length == 0) return r.value;
    return NONE;
  }

  protected named(id: u32, name: string): Bytes {
    const wanted = Bytes.of(name);
    const r = this.records();
    while (r.next()) if (r.id == id && r.name.is(wanted)) return r.value;
    return NONE;
  }

  get id(): Bytes {
    return this.value(IN_ID);
  }
  /** The endpoint: chat, completions, … */
  get route(): Bytes {
    return this.value(IN_ROUTE);
  }
  /** The model asked for. */
  get model(): Bytes {
    return this.value(IN_MODEL);
  }
  /** Who calls: the key's id. */
  get principal(): Bytes {
    return this.value(IN_PRINCIPAL);
  }
  get tenant(): Bytes {
    return this.value(IN_TENANT);
  }
  get team(): Bytes {
    return this.value(IN_TEAM);
  }
  get tier(): Bytes {
    return this.value(IN_TIER);
  }

  /** What an earlier plugin said under a name. */
  label(name: string): Bytes {
    return this.named(IN_LABEL, name);
  }

  /** The caller's own label of a name. */
  principalLabel(name: string): Bytes {
    return this.named(IN_PRINCIPAL_LABEL, name);
  }
}

/** Judged is a call that a handler may stop. */
export class Judged extends Facts {
  protected verdict: u64 = PASS;
  private reason: string = "";

  reset(): void {
    this.verdict = PASS;
    this.reason = "";
    said.reset();
  }

  /** Stops the call. A status of 0 is 403; code and message may be empty. */
  refuse(status: i32 = 0, code: string = "", message: string = ""): void {
    this.verdict = REFUSE;
    said.refuse(status, code, message);
  }

  /** Says, once refuse was called, in how many seconds the caller may try again: at most a day. */
  retryAfter(seconds: i32): void {
    said.retryAfter(seconds);
  }

  /** Says that the plugin cannot judge; its failure rule decides. */
  fail(reason: string): void {
    this.reason = reason.length > 0 ? reason : "no reason given";
  }

  result(): u64 {
    if (said.full) return failed("more said than the out buffer holds");
    if (this.reason.length > 0) return failed(this.reason);
    return pack(<u32>said.used, this.verdict, 0, 0);
  }
}

export const BAD_FACTS = "metadata does not fit the buffer it was promised to be in";
