import { MAX_RETRY, OUT_CODE, OUT_MESSAGE, OUT_RETRY, OUT_STATUS, RECORD_HEADER } from "./abi";
import { OUT, OUT_CAP } from "./buffers";
import { Bytes, NONE, put, size } from "./bytes";

/** Records are written one behind the other; one that does not fit any more makes them full. */
export class Records {
  used: usize = 0;
  full: bool = false;

  constructor(readonly ptr: usize, private readonly cap: usize) {}

  reset(): void {
    this.used = 0;
    this.full = false;
  }

  add<N, V>(id: u32, name: N, value: V): void {
    const names = size<N>(name);
    const whole = RECORD_HEADER + <usize>names + <usize>size<V>(value);
    if (names > 0xffff || whole > this.cap - this.used) {
      this.full = true;
      return;
    }
    const at = this.ptr + this.used;
    put<N>(at + RECORD_HEADER, names, name);
    const values = put<V>(at + RECORD_HEADER + names, whole, value);
    store<u16>(at, <u16>id, 0);
    store<u16>(at, <u16>names, 2);
    store<u32>(at, values, 4);
    this.used += whole;
  }

  /** Says what a refusal tells the caller; what is 0 or empty is left to the gateway. */
  refuse(status: i32, code: string, message: string): void {
    if (status >= 100 && status <= 999) this.add(OUT_STATUS, "", status.toString());
    if (code.length > 0) this.add(OUT_CODE, "", code);
    if (message.length > 0) this.add(OUT_MESSAGE, "", message);
  }

  /** Says in how many seconds a refused caller may try again. */
  retryAfter(seconds: i32): void {
    this.add(OUT_RETRY, "", min(max(seconds, 0), MAX_RETRY).toString());
  }
}

/** What the hook in hand says: the out buffer. */
export const said = new Records(OUT, OUT_CAP);

/** A Reader goes through records; one that is not whole ends them. */
export class Reader {
  id: u32 = 0;
  name: Bytes = NONE;
  value: Bytes = NONE;

  constructor(private at: usize, private readonly end: usize) {}

  next(): bool {
    const left = this.end - this.at;
    if (left < RECORD_HEADER) return false;
    const names = load<u16>(this.at, 2);
    const values = load<u32>(this.at, 4);
    if (<u64>RECORD_HEADER + names + values > <u64>left) return false;
    this.id = load<u16>(this.at);
    const name = this.at + RECORD_HEADER;
    this.name = new Bytes(name, names);
    this.value = new Bytes(name + names, values);
    this.at = name + names + values;
    return true;
  }
}
