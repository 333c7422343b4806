import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import test from "node:test"

/** The constants of a source that have plain numbers for values, by their names in capitals without underscores. */
function constants(file, pattern) {
  const all = {}
  for (const [, name, value] of readFileSync(new URL(file, import.meta.url), "utf8").matchAll(pattern)) {
    all[name.replaceAll("_", "").toUpperCase()] = new Function(`return ${value}`)()
  }
  return all
}

test("the constants are those of the contract", () => {
  const number = "(0x[0-9a-f]+|\\d+(?: << \\d+)?)"
  const want = constants("../../abi/abi.go", new RegExp(`^(?:const)?\\s*(\\w+)(?:\\s+Verdict)?\\s+= ${number}\\b`, "gm"))
  const have = constants("../nexus/abi.ts", new RegExp(`^export const (\\w+): \\w+ = ${number};`, "gm"))
  for (const [name, value] of Object.entries(have)) assert.equal(value, want[name], name)
  assert.ok(Object.keys(have).length > 75, `${Object.keys(have).length} were compared`)
})
