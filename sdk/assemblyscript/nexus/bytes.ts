/**
 * Bytes are a piece of memory: UTF-8 text as the gateway gives it. What a hook is given is valid until its handler
 * returns.
 */
export class Bytes {
  constructor(public readonly ptr: usize, public readonly length: i32) {}

  /** Encodes a string; what it returns lives as long as memory allocated at this moment does. */
  static of(s: string): Bytes {
    const n = String.UTF8.byteLength(s);
    const ptr = heap.alloc(n);
    put(ptr, n, s);
    return new Bytes(ptr, n);
  }

  /** There is no such thing, as opposed to an empty one. */
  get absent(): bool {
    return this.ptr == 0;
  }

  /** The byte at i. */
  at(i: i32): u8 {
    if (<u32>i >= <u32>this.length) unreachable();
    return load<u8>(this.ptr + i);
  }

  /** Whether these are the bytes of s. */
  is<T>(s: T): bool {
    const other = bytes<T>(s);
    return this.length == other.length && memory.compare(this.ptr, other.ptr, this.length) == 0;
  }

  /** The bytes from start up to end, without copying. */
  slice(start: i32, end: i32): Bytes {
    if (start < 0 || start > end || end > this.length) unreachable();
    return new Bytes(this.ptr + start, end - start);
  }

  toString(): string {
    return String.UTF8.decodeUnsafe(this.ptr, this.length);
  }
}

/** What is not there. */
export const NONE = new Bytes(0, 0);

/** A string or Bytes, as Bytes. */
export function bytes<T>(s: T): Bytes {
  if (isString<T>()) return Bytes.of(changetype<string>(s));
  return changetype<Bytes>(s);
}

/** How many bytes a string or Bytes are. */
export function size<T>(s: T): i32 {
  if (isString<T>()) return String.UTF8.byteLength(changetype<string>(s));
  return changetype<Bytes>(s).length;
}

/** Writes a string or Bytes, and returns how many bytes that were; -1: more than cap. It allocates nothing. */
export function put<T>(ptr: usize, cap: usize, s: T): i32 {
  const n = size<T>(s);
  if (<usize>n > cap) return -1;
  if (isString<T>()) {
    const text = changetype<string>(s);
    String.UTF8.encodeUnsafe(changetype<usize>(text), text.length, ptr, false, String.UTF8.ErrorMode.REPLACE);
  } else {
    memory.copy(ptr, changetype<Bytes>(s).ptr, n);
  }
  return n;
}
