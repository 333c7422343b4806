import { Bytes, Config, Kind, log } from "nexus";

export let word: Bytes = Bytes.of("secret");
export let put: Bytes = Bytes.of("[WORD]");

let fail = false;
let talk = false;

export function configure(c: Config): void {
  while (c.next()) take(c);
  if (fail) c.fail("asked to fail");
  if (talk && !c.failed) log("probe ready");
}

function take(c: Config): void {
  if (c.key == "word") {
    if (c.kind != Kind.Text || c.text.length == 0 || c.text.length > 64) c.fail("word must be a text of 1 to 64 bytes");
    word = c.text;
  } else if (c.key == "with") {
    if (c.kind != Kind.Text || c.text.length > 64) c.fail("with must be a text of up to 64 bytes");
    put = c.text;
  } else if (c.key == "fail") {
    if (c.kind != Kind.Truth) c.fail("fail must be true or false");
    fail = c.truth;
  } else if (c.key == "log") {
    if (c.kind != Kind.Truth) c.fail("log must be true or false");
    talk = c.truth;
  } else {
    c.fail("unknown key " + c.key);
  }
}
