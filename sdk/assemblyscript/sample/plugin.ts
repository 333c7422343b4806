// This plugin masks configured words, in requests and in replies.

import { Bytes, Config, Kind, Text, handleConfigure, handleText } from "nexus";

export { nexus_abi_1, nexus_buffers } from "nexus"; // says that this is a plugin, and where its buffers stand

export function nexus_configure(size: u32): u64 {
  return handleConfigure(size, configure);
}

export function nexus_on_text(size: u32, flags: u32): u64 {
  return handleText(size, flags, mask);
}

const longest = 64; // bytes of a word; what may become one is held back, and max_hold bounds that

let words: Array<Bytes> = [Bytes.of("secret")];
let stars: Bytes = Bytes.of("***");
const begins = new StaticArray<bool>(256); // whether a word begins with the byte: most do not, and need no closer look

function configure(c: Config): void {
  while (c.next()) {
    if (c.key == "words" && c.kind == Kind.Texts) words = c.texts;
    else if (c.key == "with" && c.kind == Kind.Text) stars = c.text;
    else c.fail(c.key + " is not a setting, or not of its kind");
  }
  for (let i = 0; i < words.length; i++) {
    if (words[i].length == 0 || words[i].length > longest) return c.fail("words must have 1 to 64 bytes");
    begins[words[i].at(0)] = true;
  }
}

function mask(t: Text): void {
  for (let i = 0; i < t.length; i++) {
    if (!begins[t.at(i)]) continue;
    let found = 0;
    for (let w = 0; w < words.length; w++) {
      const word = words[w];
      if (t.mayBecome(i, word)) {
        t.hold(t.length - i); // decided when more of it has come
        return;
      }
      if (word.length > found && t.has(i, word)) found = word.length;
    }
    if (found > 0) {
      t.replace(i, i + found, stars, 1);
      i += found - 1;
    }
  }
}
