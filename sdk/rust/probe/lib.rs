//! The probe does on demand everything a plugin can do: ../../conformance/PROBE.md.

use nexus::host::{self, Fact, HttpError, HttpRequest};
use nexus::json::Value;
use nexus::{End, Place, Request, Text, ToolCall, Usage};

nexus::plugin! {
    configure: configure,
    on_request: on_request,
    on_tool_call: on_tool_call,
    on_usage: on_usage,
    on_end: on_end,
}

struct Config {
    word: String,
    with: String,
    fail: bool,
    log: bool,
}

static CONFIG: nexus::Kept<Config> = nexus::Kept::new();

fn configure(settings: Value) -> Result<(), String> {
    let mut c = Config { word: "secret".into(), with: "[WORD]".into(), fail: false, log: false };
    for (name, v) in settings.members() {
        let text = || v.text().filter(|t| t.len() <= 64).map(|t| t.chars().collect::<String>());
        if name.is("word") {
            c.word = text().filter(|t| !t.is_empty()).ok_or("word must be a text of 1 to 64 bytes")?;
        } else if name.is("with") {
            c.with = text().ok_or("with must be a text of up to 64 bytes")?;
        } else if name.is("fail") {
            c.fail = v.bool().ok_or("fail must be true or false")?;
        } else if name.is("log") {
            c.log = v.bool().ok_or("log must be true or false")?;
        } else {
            return Err("unknown key ".chars().chain(name.chars()).collect());
        }
    }
    if c.fail {
        return Err("asked to fail".into());
    }
    if c.log {
        host::log("probe ready");
    }
    CONFIG.set(c);
    Ok(())
}

const COMMANDS: [&str; 6] = ["!trap", "!fail", "!refuse", "!hold", "!bad", "!label"];

/// Exported by hand: the typed API does not give the answer to `!bad`.
#[cfg(target_arch = "wasm32")]
#[no_mangle]
pub extern "C" fn nexus_on_text(n: u32, flags: u32) -> u64 {
    let mut bad = false;
    let answer = nexus::guest::with(n, |b| nexus::run_text(b, flags, |t| bad = on_text(t)));
    if !bad {
        return answer;
    }
    // Of a byte more than there is, the edit is out of bounds, and the SDK none the wiser.
    nexus::guest::with(n + 1, |b| nexus::run_text(b, flags, |t| t.replace(0, t.bytes().len(), "", 0)))
}

/// Returns whether the text asks for a bad answer.
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
fn on_text(t: &mut Text) -> bool {
    let text = t.bytes();
    let first = t.window().1 == 0;
    let opens = |c: &&str| !text.is_empty() && c.as_bytes().starts_with(text);
    match COMMANDS.iter().find(|c| first && text.starts_with(c.as_bytes())) {
        Some(&"!trap") => panic!("asked to trap"),
        Some(&"!fail") => t.fail("asked to fail"),
        Some(&"!refuse") => t.refuse(403, "probe_refused", "asked to refuse"),
        Some(&"!hold") => t.hold(text.len()),
        Some(&"!bad") => return true,
        Some(_) => {
            let mut room = [0; 256];
            host::set_label("probe", host::label("seen", &mut room).unwrap_or("none"));
            mask(t);
        }
        None if first && !t.is_final() && COMMANDS.iter().any(|c| opens(&c)) => t.hold(text.len()),
        None => mask(t),
    }
    false
}

fn mask(t: &mut Text) {
    let (word, with) = CONFIG.get().map_or(("secret", "[WORD]"), |c| (c.word.as_str(), c.with.as_str()));
    let text = t.bytes();
    let mut i = 0;
    while i < text.len() {
        if text[i..].starts_with(word.as_bytes()) {
            t.replace(i, i + word.len(), with, 1);
            i += word.len();
        } else if !t.is_final() && word.as_bytes().starts_with(&text[i..]) {
            return t.hold(text.len() - i);
        } else {
            i += 1;
        }
    }
}

fn on_request(r: &mut Request) {
    match r.model() {
        "refuse" => r.refuse(402, "probe_refused", "asked to refuse"),
        "trap" => panic!("asked to trap"),
        "fail" => r.fail("asked to fail"),
        model => {
            act(r, model);
            tell(r, model);
        }
    }
}

fn act(r: &mut Request, model: &str) {
    match model {
        "answer" => r.answer("hello from the probe"),
        "switch" => r.set_model("other"),
        "pool" => r.set_pool("other"),
        "set" => {
            host::set_model("other");
            host::set_pool("other");
        }
        "system" => r.set_system(Place::Before, "Be brief."),
        "headers" => {
            r.set_header("x-probe", "1");
            r.drop_header("server");
            r.set_request_header("x-probe-in", r.header("x-ask").unwrap_or(""));
        }
        "count" => {
            let count = host::count_if("k", 1, 2, 60000).map_or("full".to_string(), |n| n.to_string());
            r.set_label("count", &count);
        }
        "read" => r.set_label("count", &host::count("k").to_string()),
        "known" => known(r),
        "vault" => host::vault_put("probe value", "probe-token"),
        "log" => host::log("probe was asked"),
        "time" => {
            let mut b = [0; 8];
            host::random(&mut b);
            r.set_label("time", yes(host::now_ms() > 0));
            r.set_label("random", yes(b != [0; 8]));
        }
        "http" => http(r),
        _ => {}
    }
}

fn known(r: &mut Request) {
    let mut room = [0; 256];
    r.set_label("known", host::known(Fact::Principal, "", &mut room).unwrap_or("none"));
    r.set_label("asked", host::known(Fact::Header, "x-ask", &mut room).unwrap_or("none"));
    r.set_label("grade", host::known(Fact::PrincipalLabel, "grade", &mut room).unwrap_or("none"));
}

fn http(r: &mut Request) {
    let mut room = vec![0; 64 << 10];
    let ask = HttpRequest { method: "POST", url: "https://probe.test/ask", headers: &[("x-probe", "1")], body: b"ping" };
    match host::http(ask, &mut room) {
        Ok(got) => {
            r.set_label("http", &got.status.to_string());
            r.set_label("said", core::str::from_utf8(&got.body[..got.body.len().min(64)]).unwrap_or(""));
        }
        Err(HttpError::NotAllowed) => r.set_label("http", "denied"),
        Err(HttpError::NoAnswer) => r.set_label("http", "no"),
    }
}

/// Labels the call with what the request is.
fn tell(r: &mut Request, model: &str) {
    if (1..=256).contains(&model.len()) {
        r.set_label("seen", model);
    }
    let tools = r.tools().collect::<Vec<_>>();
    let names = tools.join(",");
    if !tools.is_empty() && names.len() <= 256 {
        r.set_label("tools", &names);
    }
    r.set_label("stream", yes(r.stream()));
    r.set_label("bytes", yes(r.body_bytes() > 0));
    let max_tokens = r.max_tokens().map_or(-1, |n| n as i64);
    let numbers = [
        ("turns", r.turns()),
        ("choices", r.choices()),
        ("images", r.images()),
        ("tool_count", r.tool_count()),
        ("texts", r.texts()),
        ("systems", r.systems()),
    ];
    for (name, n) in numbers {
        r.set_label(name, &n.to_string());
    }
    r.set_label("max_tokens", &max_tokens.to_string());
}

fn yes(b: bool) -> &'static str {
    if b {
        "yes"
    } else {
        "no"
    }
}

fn on_tool_call(c: &mut ToolCall) {
    match c.name() {
        "drop" => c.drop_call("[dropped]"),
        "refuse" => c.refuse(403, "probe_refused", "asked to refuse"),
        "rewrite" => c.set_arguments(r#"{"rewritten":true}"#),
        "trap" => panic!("asked to trap"),
        _ => {}
    }
}

fn on_usage(u: &mut Usage) {
    if u.completion() > 1000 {
        u.refuse(429, "probe_usage", "too much");
    }
}

fn on_end(_: &End) {
    host::metric("ended", 1.0);
}
