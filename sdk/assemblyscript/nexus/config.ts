import { PASS, pack } from "./abi";
import { IN, IN_CAP, failed } from "./buffers";
import { Bytes, NONE } from "./bytes";

/** What a setting is. */
export enum Kind {
  Null,
  Truth,
  Number,
  Text,
  Texts, // a list of them
}

const MALFORMED = "configuration is not a JSON object";

/**
 * A Config goes through a plugin's configuration, a JSON object whose values are texts, numbers, truths or lists of
 * texts:
 *
 *     while (c.next()) {
 *       if (c.key == "words" && c.kind == Kind.Texts) words = c.texts;
 *       else c.fail("unknown setting " + c.key);
 *     }
 *
 * What it gives stays.
 */
export class Config {
  /** The setting in hand. */
  key: string = "";
  kind: Kind = Kind.Null;
  text: Bytes = NONE; // of Kind.Text; of Kind.Number as it is written
  texts: Array<Bytes> = []; // of Kind.Texts
  truth: bool = false; // of Kind.Truth

  private reason: string = "";
  private ended: bool = false;
  private readonly seen: Array<string> = [];

  constructor(private at: usize, private readonly end: usize) {}

  /** The setting's number: 0 for one that is no whole number of at most nine digits, which whole tells. */
  get number(): i32 {
    return this.whole ? <i32>parseInt(this.text.toString(), 10) : 0;
  }

  get whole(): bool {
    const t = this.text;
    const from = t.length > 0 && t.at(0) == 0x2d ? 1 : 0;
    if (this.kind != Kind.Number || t.length - from > 9) return false;
    for (let i = from; i < t.length; i++) if (!digit(t.at(i))) return false;
    return true;
  }

  /** Refuses the configuration: the gateway does not load it. The first reason counts. */
  fail(reason: string): void {
    if (this.reason.length == 0) this.reason = reason.length > 0 ? reason : MALFORMED;
    this.ended = true;
  }

  get failed(): bool {
    return this.reason.length > 0;
  }

  /** Goes to the next setting; false: there is none, or the configuration is refused. */
  next(): bool {
    if (this.ended) return false;
    const first = this.seen.length == 0;
    if (first && this.peek() == 0) return this.stop(true); // no configuration at all
    if (first && !this.skip(0x7b)) return this.stop(false);
    if (this.skip(0x7d)) return this.stop(this.peek() == 0);
    if (!first && !this.skip(0x2c)) return this.stop(false);
    const key = this.string();
    if (key.absent || !this.skip(0x3a)) return this.stop(false);
    this.key = key.toString();
    if (this.seen.includes(this.key)) {
      this.fail("setting " + this.key + " is given twice");
    } else if (!this.value()) {
      this.fail("setting " + this.key + " must be a text, a number, true, false or a list of texts");
    }
    this.seen.push(this.key);
    return !this.ended;
  }

  /** What nexus_configure returns; settings that nobody asked for are still read, so that all of it is JSON. */
  result(): u64 {
    while (this.next()) {}
    return this.failed ? failed(this.reason) : pack(0, PASS, 0, 0);
  }

  private stop(well: bool): bool {
    if (!well) this.fail(MALFORMED);
    this.ended = true;
    return false;
  }

  /** The next byte after white space, 0 at the end. */
  private peek(): u8 {
    for (; this.at < this.end; this.at++) {
      const c = load<u8>(this.at);
      if (c != 0x20 && c != 0x09 && c != 0x0a && c != 0x0d) return c;
    }
    return 0;
  }

  private skip(c: u8): bool {
    if (this.peek() != c) return false;
    this.at++;
    return true;
  }

  private value(): bool {
    const c = this.peek();
    this.text = NONE;
    if (c == 0x22) {
      this.kind = Kind.Text;
      this.text = this.string();
      return !this.text.absent;
    }
    if (c == 0x5b) return this.list();
    if (c == 0x2d || digit(c)) return this.numeral();
    this.kind = c == 0x6e ? Kind.Null : Kind.Truth;
    this.truth = c == 0x74;
    return this.literal(c == 0x6e ? "null" : this.truth ? "true" : "false");
  }

  private literal(word: string): bool {
    for (let i = 0; i < word.length; i++) if (!this.byte(<u8>word.charCodeAt(i))) return false;
    return true;
  }

  /** Takes the byte that comes next, if it is c. */
  private byte(c: u8): bool {
    if (this.at >= this.end || load<u8>(this.at) != c) return false;
    this.at++;
    return true;
  }

  private numeral(): bool {
    const start = this.at;
    this.byte(0x2d);
    const zero = this.byte(0x30);
    if (zero == this.digits()) return false; // 0 stands alone, anything else has digits
    if (this.byte(0x2e) && !this.digits()) return false;
    if (this.byte(0x65) || this.byte(0x45)) {
      if (!this.byte(0x2b)) this.byte(0x2d);
      if (!this.digits()) return false;
    }
    this.kind = Kind.Number;
    this.text = copy(start, this.at);
    return true;
  }

  private digits(): bool {
    const start = this.at;
    while (this.at < this.end && digit(load<u8>(this.at))) this.at++;
    return this.at > start;
  }

  private list(): bool {
    this.kind = Kind.Texts;
    this.texts = [];
    this.skip(0x5b);
    while (!this.skip(0x5d)) {
      if (this.texts.length > 0 && !this.skip(0x2c)) return false;
      const s = this.string();
      if (s.absent) return false;
      this.texts.push(s);
    }
    return true;
  }

  /** Reads a text; it is absent where there is none. It is never longer than it is written. */
  private string(): Bytes {
    if (!this.skip(0x22)) return NONE;
    const out = heap.alloc(this.end - this.at);
    let to = out;
    while (this.at < this.end) {
      const c = load<u8>(this.at++);
      if (c == 0x22) return new Bytes(out, <i32>(to - out));
      if (c < 0x20) return NONE;
      if (c != 0x5c) store<u8>(to++, c);
      else if ((to = this.escape(to)) == 0) return NONE;
    }
    return NONE;
  }

  /** Reads what follows a backslash, writes it and returns where it ends; 0: it is none. */
  private escape(to: usize): usize {
    if (this.at >= this.end) return 0;
    const c = load<u8>(this.at++);
    if (c == 0x75) return this.unicode(to);
    const plain = c == 0x22 || c == 0x5c || c == 0x2f ? c : short(c);
    if (plain == 0) return 0;
    store<u8>(to, plain);
    return to + 1;
  }

  /** Reads \u; a surrogate without its other half becomes U+FFFD. */
  private unicode(to: usize): usize {
    let c = this.hex();
    if (c < 0) return 0;
    if (c >= 0xd800 && c < 0xdc00 && this.at + 6 <= this.end && load<u16>(this.at) == 0x755c) {
      const here = this.at;
      this.at += 2;
      const low = this.hex();
      if (low >= 0xdc00 && low < 0xe000) c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
      else this.at = here;
    }
    return utf8(to, c >= 0xd800 && c < 0xe000 ? 0xfffd : c);
  }

  private hex(): i32 {
    if (this.at + 4 > this.end) return -1;
    let v = 0;
    for (let i = 0; i < 4; i++) {
      const d = nibble(load<u8>(this.at++));
      if (d < 0) return -1;
      v = (v << 4) | d;
    }
    return v;
  }
}

function digit(c: u8): bool {
  return c >= 0x30 && c <= 0x39;
}

function nibble(c: u8): i32 {
  if (digit(c)) return c - 0x30;
  const lower = c | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x61 + 10 : -1;
}

function short(c: u8): u8 {
  switch (c) {
    case 0x62: return 0x08;
    case 0x66: return 0x0c;
    case 0x6e: return 0x0a;
    case 0x72: return 0x0d;
    case 0x74: return 0x09;
    default: return 0;
  }
}

function utf8(to: usize, c: i32): usize {
  if (c < 0x80) {
    store<u8>(to, c);
    return to + 1;
  }
  if (c < 0x800) {
    store<u8>(to, 0xc0 | (c >> 6));
    store<u8>(to + 1, 0x80 | (c & 0x3f));
    return to + 2;
  }
  if (c < 0x10000) {
    store<u8>(to, 0xe0 | (c >> 12));
    store<u8>(to + 1, 0x80 | ((c >> 6) & 0x3f));
    store<u8>(to + 2, 0x80 | (c & 0x3f));
    return to + 3;
  }
  store<u8>(to, 0xf0 | (c >> 18));
  store<u8>(to + 1, 0x80 | ((c >> 12) & 0x3f));
  store<u8>(to + 2, 0x80 | ((c >> 6) & 0x3f));
  store<u8>(to + 3, 0x80 | (c & 0x3f));
  return to + 4;
}

function copy(start: usize, end: usize): Bytes {
  const n = end - start;
  const ptr = heap.alloc(n);
  memory.copy(ptr, start, n);
  return new Bytes(ptr, <i32>n);
}

/** Runs f on the plugin's configuration: the body of nexus_configure. What f allocates stays. */
export function handleConfigure(size: u32, f: (c: Config) => void): u64 {
  if (<usize>size > IN_CAP) return failed("configuration too long");
  const config = new Config(IN, IN + size);
  f(config);
  return config.result();
}
