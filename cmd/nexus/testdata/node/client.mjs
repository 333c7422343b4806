// Drives a running gateway with the official SDK. BASE, KEY and LIMITED_KEY come from the environment.
import assert from 'node:assert/strict';
import OpenAI from 'openai';

const { BASE, KEY, POOR_KEY, NARROW_KEY } = process.env;
const client = new OpenAI({ baseURL: BASE + '/v1', apiKey: KEY, maxRetries: 0 });
const ask = (text, more = {}) => ({ model: 'mock', messages: [{ role: 'user', content: text }], ...more });

async function refused(kind, status, promise) {
  await assert.rejects(promise, (e) => {
    assert.ok(e instanceof kind, `${e.constructor.name} is not ${kind.name}: ${e.message}`);
    assert.equal(e.status, status);
    assert.ok(e.requestID, 'no x-request-id');
    return true;
  });
}

const cases = {
  async 'chat, whole'() {
    const r = await client.chat.completions.create(ask('안녕하세요'));
    assert.equal(r.choices[0].finish_reason, 'stop');
    assert.ok(r.choices[0].message.content.length > 0);
    assert.ok(r.usage.total_tokens > 0);
  },
  async 'chat, streamed'() {
    let text = '', finish;
    for await (const c of await client.chat.completions.create(ask('안녕하세요', { stream: true }))) {
      assert.equal(c.usage ?? null, null);
      text += c.choices[0].delta.content ?? '';
      finish = c.choices[0].finish_reason ?? finish;
    }
    const whole = await client.chat.completions.create(ask('안녕하세요'));
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(finish, 'stop');
  },
  async 'chat, streamed with usage'() {
    let usage;
    for await (const c of await client.chat.completions.create(ask('hi', { stream: true, stream_options: { include_usage: true } }))) usage = c.usage ?? usage;
    assert.ok(usage.completion_tokens > 0);
  },
  async 'personal data never reaches the backend'() {
    const r = await client.chat.completions.create({ ...ask('제 번호는 010-2345-6789, kim@example.co.kr 입니다 👩‍👩‍👧'), model: 'mock-echo' });
    assert.equal(r.choices[0].message.content, '제 번호는 [PHONE], [EMAIL] 입니다 👩‍👩‍👧');
  },
  async 'tools'() {
    const tools = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } } }];
    const r = await client.chat.completions.create(ask('날씨?', { tools, tool_choice: { type: 'function', function: { name: 'weather' } } }));
    assert.equal(r.choices[0].message.tool_calls[0].function.name, 'weather');
    JSON.parse(r.choices[0].message.tool_calls[0].function.arguments);
    let args = '';
    for await (const c of await client.chat.completions.create(ask('날씨?', { tools, tool_choice: 'required', stream: true })))
      args += c.choices[0]?.delta.tool_calls?.[0]?.function?.arguments ?? '';
    JSON.parse(args);
  },
  async 'embeddings'() {
    const r = await client.embeddings.create({ model: 'mock-embed', input: ['하나', 'two'] });
    assert.equal(r.data.length, 2);
    assert.ok(r.data[0].embedding.length > 0);
  },
  async 'models'() {
    const all = [];
    for await (const m of client.models.list()) all.push(m.id);
    assert.ok(all.includes('mock'));
    assert.equal((await client.models.retrieve('mock')).id, 'mock');
    await refused(OpenAI.NotFoundError, 404, client.models.retrieve('gpt-9'));
  },
  async 'responses'() {
    const r = await client.responses.create({ model: 'mock', input: '안녕' });
    assert.ok(r.output_text.length > 0);
  },
  async 'a prompt of one megabyte'() {
    const text = '가나다 abc 👍 '.repeat(50_000);
    const r = await client.chat.completions.create({ ...ask(text), model: 'mock-echo' });
    assert.equal(r.choices[0].message.content, text);
  },
  async 'abort in mid-stream'() {
    const s = await client.chat.completions.create(ask('[[mock tokens=5000 pace=10ms]]', { stream: true }));
    let n = 0;
    for await (const _ of s) if (++n === 3) s.controller.abort();
    assert.ok(n < 100);
  },
  async 'errors are the SDK\'s own classes'() {
    const at = (apiKey) => new OpenAI({ baseURL: BASE + '/v1', apiKey, maxRetries: 0 });
    await refused(OpenAI.AuthenticationError, 401, at('nx-wrong').chat.completions.create(ask('x')));
    await refused(OpenAI.NotFoundError, 404, client.chat.completions.create({ ...ask('x'), model: 'gpt-9' }));
    await refused(OpenAI.NotFoundError, 404, at(NARROW_KEY).chat.completions.create(ask('x')));
    await refused(OpenAI.PermissionDeniedError, 403, client.chat.completions.create(ask('x', { user: 'forbidden' }), { headers: { 'x-deny-me': '1' } }));
    await refused(OpenAI.APIError, 413, client.chat.completions.create(ask('x'.repeat(3 << 20))));
    await refused(OpenAI.BadRequestError, 400, client.chat.completions.create({ model: 'mock', messages: [] }));
    const poor = at(POOR_KEY);
    // One request a minute: of three in a row at most two fall on either side of a window's end.
    await refused(OpenAI.RateLimitError, 429, (async () => {
      for (let i = 0; i < 3; i++) await poor.chat.completions.create(ask('x', { max_tokens: 5 }));
    })());
  },
  async 'a stream that breaks raises'() {
    await assert.rejects(async () => {
      for await (const _ of await client.chat.completions.create(ask('[[mock fault=die-after=3]]', { stream: true })));
    }, OpenAI.APIError);
  },
};

let failed = 0;
for (const [name, run] of Object.entries(cases)) {
  try {
    await run();
    console.log('ok   ' + name);
  } catch (e) {
    failed++;
    console.log('FAIL ' + name + ': ' + (e.stack ?? e));
  }
}
process.exit(failed ? 1 : 0);
