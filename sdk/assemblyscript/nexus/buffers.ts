// The buffers that host and guest share, and the memory that handlers allocate.

import { EDIT_SIZE, MAX_PIECE, PASS, pack } from "./abi";
import { put } from "./bytes";

// A guest is called by one caller at a time, so there is one of each. The in buffer takes the arguments of a large
// tool call; the edit buffer holds an edit for every 4 bytes of a text.
export const IN_CAP: usize = 256 << 10;
export const EDIT_CAP: usize = (MAX_PIECE / 4) * EDIT_SIZE;
export const OUT_CAP: usize = 512 << 10;

export const IN: usize = memory.data(262144, 16);
export const EDIT: usize = memory.data(163840, 16);
export const OUT: usize = memory.data(524288, 16);
const TABLE: usize = memory.data(24, 16);

/** Says which contract the plugin speaks. */
export function nexus_abi_1(): void {}

/** Tells the host where the buffers stand. */
export function nexus_buffers(): usize {
  store<u32>(TABLE, <u32>IN, 0);
  store<u32>(TABLE, <u32>IN_CAP, 4);
  store<u32>(TABLE, <u32>EDIT, 8);
  store<u32>(TABLE, <u32>EDIT_CAP, 12);
  store<u32>(TABLE, <u32>OUT, 16);
  store<u32>(TABLE, <u32>OUT_CAP, 20);
  return TABLE;
}

/** Reports to the host that the guest cannot go on, and why. */
export function failed(reason: string): u64 {
  const n = put(OUT, OUT_CAP, reason);
  return n < 0 ? failed("failed, with more to say than the out buffer holds") : pack(<u32>n, PASS, 1, 0);
}

// Where the memory of a call begins: behind what was allocated at start and by configure, which stays.
let floor: usize = 0;

/** Begins a hook: what is allocated from here on is free again after settle. */
export function begin(): void {
  if (floor == 0) {
    floor = heap.alloc(0);
    heap.free(floor);
  }
}

/**
 * Ends a hook and gives back all that it allocated: the stub runtime never frees, but for its last block, so one block
 * is laid over everything since begin, and freed. A block's size stands in the word before it.
 */
export function settle(result: u64): u64 {
  const end = heap.alloc(0);
  store<usize>(floor - sizeof<usize>(), end + load<usize>(end - sizeof<usize>()) - floor);
  heap.free(floor);
  return result;
}
