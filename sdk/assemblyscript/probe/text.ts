import { Bytes, Text, label, setLabel } from "nexus";
import { EDIT } from "nexus/buffers";
import { PASS, pack } from "nexus/abi";
import { or } from "./request";
import { put, word } from "./settings";

// The commands, each of which a text may begin with.
const trap = Bytes.of("!trap");
const fail = Bytes.of("!fail");
const refuse = Bytes.of("!refuse");
const hold = Bytes.of("!hold");
const bad = Bytes.of("!bad");
const tell = Bytes.of("!label");

let wrong: i32 = -1; // the length of a text that asked for an edit which the typed API does not make

export function text(t: Text): void {
  if (t.context > 0) return mask(t);
  if (t.has(0, trap)) unreachable();
  if (t.has(0, fail)) return t.fail("asked to fail");
  if (t.has(0, refuse)) return t.refuse(403, "probe_refused", "asked to refuse");
  if (t.has(0, hold) || opens(t)) return t.hold(t.length);
  if (t.has(0, bad)) {
    wrong = t.length;
    return;
  }
  if (t.has(0, tell)) setLabel("probe", or(label("seen")));
  mask(t);
}

/** Whether the text may yet become a command. */
function opens(t: Text): bool {
  return t.mayBecome(0, trap) || t.mayBecome(0, fail) || t.mayBecome(0, refuse) || t.mayBecome(0, hold) || t.mayBecome(0, bad) || t.mayBecome(0, tell);
}

/** Makes an edit that ends one byte behind the text, if it asked for that. */
export function beyond(result: u64): u64 {
  if (wrong < 0) return result;
  memory.fill(EDIT, 0, 20);
  store<u32>(EDIT, wrong + 1, 4);
  wrong = -1;
  return pack(0, PASS, 0, 1);
}

/** Replaces the word and holds back what may become it. */
function mask(t: Text): void {
  for (let i = 0; i < t.length; ) {
    if (t.has(i, word)) {
      t.replace(i, i + word.length, put, 1);
      i += word.length;
    } else if (t.mayBecome(i, word)) {
      return t.hold(t.length - i);
    } else {
      i++;
    }
  }
}
