import assert from "node:assert/strict"
import test from "node:test"
import { Plugin, build } from "#harness"

const module = build(new URL(".", import.meta.url))

test("masks words, wherever the text is cut", () => {
  const tests = [
    { text: "a secret", want: "a ***", kinds: [1] },
    { text: "no match", want: "no match", kinds: [] },
    { text: "secretsecret secre", want: "****** secre", kinds: [1, 1] },
    { text: "secsecret", want: "sec***", kinds: [1] },
    { config: { words: ["cat", "category"], with: "–" }, text: "cat category categ", want: "– – –eg", kinds: [1, 1, 1] },
    { config: { words: ["비밀"] }, text: "이것은 비밀입니다 비", want: "이것은 ***입니다 비", kinds: [1] },
    { config: { words: ["aab"], with: "" }, text: "aaab aab", want: "a ", kinds: [1, 1] },
    { config: { words: [] }, text: "secret", want: "secret", kinds: [] },
  ]
  for (const { config, text, want, kinds } of tests) {
    const got = new Plugin(module, config).tryCuts({ reply: true }, text)
    assert.deepEqual([got.text, got.kinds], [want, kinds], text)
  }
})

test("refuses a configuration that is wrong", () => {
  const wrong = [{ words: "secret" }, { words: [""] }, { words: ["x".repeat(65)] }, { with: 1 }, { word: ["a"] }]
  for (const config of wrong) assert.throws(() => new Plugin(module, config), /the plugin failed/, JSON.stringify(config))
})
