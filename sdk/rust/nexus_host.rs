//! What the gateway offers a plugin beside the hooks. A module imports only what its code calls, and each is a
//! capability that the manifest asks for. In a native build, [`super::testing::host`] stands in for the gateway.

use super::{id, Facts, Records, Said};

/// Something known of the call, for `on_text`, which is told of the text alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fact {
    Id = id::IN_ID as isize,
    Route = id::IN_ROUTE as isize,
    Model = id::IN_MODEL as isize,
    Principal = id::IN_PRINCIPAL as isize,
    Tenant = id::IN_TENANT as isize,
    Team = id::IN_TEAM as isize,
    Tier = id::IN_TIER as isize,
    /// By name.
    PrincipalLabel = id::IN_PRINCIPAL_LABEL as isize,
    /// By name in lower case; capability `headers`.
    Header = id::IN_HEADER as isize,
}

fn filled(room: &[u8], n: i32) -> Option<&str> {
    let n = usize::try_from(n).ok()?; // -1: none
    core::str::from_utf8(room.get(..n)?).ok()
}

/// Writes one bounded line to the gateway's log. It must never hold a caller's text.
pub fn log(line: &str) {
    unsafe { raw::log(line.as_ptr(), line.len()) }
}

/// What this or an earlier plugin said of the call under `name`; `None` too when it is longer than `room`.
pub fn label<'a>(name: &str, room: &'a mut [u8]) -> Option<&'a str> {
    let n = unsafe { raw::label_get(name.as_ptr(), name.len(), room.as_mut_ptr(), room.len()) };
    filled(room, n)
}

/// Tells policy and log what the plugin found out. Capability `label_set`.
pub fn set_label(name: &str, value: &str) {
    unsafe { raw::label_set(name.as_ptr(), name.len(), value.as_ptr(), value.len()) }
}

/// What is known of the call; `name` is empty but for labels and headers. Capability `call_get`.
pub fn known<'a>(fact: Fact, name: &str, room: &'a mut [u8]) -> Option<&'a str> {
    let n = unsafe { raw::call_get(fact as u32, name.as_ptr(), name.len(), room.as_mut_ptr(), room.len()) };
    filled(room, n)
}

/// Chooses the request's model; requests only. Capability `model`.
pub fn set_model(name: &str) {
    unsafe { raw::model_set(name.as_ptr(), name.len()) }
}

/// Chooses the pool where policy names no target; requests only. Capability `pool`.
pub fn set_pool(name: &str) {
    unsafe { raw::pool_set(name.as_ptr(), name.len()) }
}

/// A counter's value, 0 when there is none. Counters are the plugin's own, shared by all replicas of the gateway.
/// Capability `kv_get`.
pub fn count(key: &str) -> i64 {
    unsafe { raw::kv_get(key.as_ptr(), key.len()) }
}

/// Adds to a counter unless that would pass `limit`, and returns the new count; otherwise `None`, and nothing is added.
/// A counter lives for `ttl_ms` from when it was first added to. Capability `kv_incr_if`.
pub fn count_if(key: &str, amount: i64, limit: i64, ttl_ms: i64) -> Option<i64> {
    let n = unsafe { raw::kv_incr_if(key.as_ptr(), key.len(), amount, limit, ttl_ms) };
    Some(n).filter(|&n| n >= 0)
}

/// Notes that `token` stands for `value` in this call: where the decision restores, the caller reads `value` where the
/// answer says `token`. Capability `vault_put`.
pub fn vault_put(value: &str, token: &str) {
    unsafe { raw::vault_put(value.as_ptr(), value.len(), token.as_ptr(), token.len()) }
}

/// Adds to a counter that the manifest names under metrics. Capability `metric`.
pub fn metric(name: &str, amount: f64) {
    unsafe { raw::metric(name.as_ptr(), name.len(), amount) }
}

/// Unix milliseconds. Capability `now_ms`.
pub fn now_ms() -> i64 {
    unsafe { raw::now_ms() }
}

/// Fills `room` with random bytes. Capability `random`.
pub fn random(room: &mut [u8]) {
    unsafe { raw::random(room.as_mut_ptr(), room.len()) }
}

/// A question to another server. An empty method is GET.
#[derive(Clone, Copy, Default)]
pub struct HttpRequest<'a> {
    pub method: &'a str,
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

/// What came back.
pub struct HttpResponse<'a> {
    pub status: u16,
    pub body: &'a [u8],
    facts: Facts<'a>,
}

impl<'a> HttpResponse<'a> {
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.facts.text(id::HTTP_HEADER, name)
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HttpError {
    /// It was not answered in time, or by more than there is room for.
    NoAnswer,
    /// The configuration does not let the plugin ask there.
    NotAllowed,
}

/// Asks another server, one that the configuration allows, on the time of the call. `room` takes the question and the
/// answer. Capability `http_call`.
pub fn http<'a>(ask: HttpRequest, room: &'a mut [u8]) -> Result<HttpResponse<'a>, HttpError> {
    let mut said = Said::new(room);
    if !ask.method.is_empty() {
        said.add(id::HTTP_METHOD, b"", ask.method.as_bytes());
    }
    said.add(id::HTTP_URL, b"", ask.url.as_bytes());
    for (name, value) in ask.headers {
        said.add(id::HTTP_HEADER, name.as_bytes(), value.as_bytes());
    }
    if !ask.body.is_empty() {
        said.add(id::HTTP_BODY, b"", ask.body);
    }
    if said.failed {
        return Err(HttpError::NoAnswer);
    }
    let used = said.used;
    let (there, back) = room.split_at_mut(used);
    let n = unsafe { raw::http_call(there.as_ptr(), there.len(), back.as_mut_ptr(), back.len()) };
    let back: &'a [u8] = back;
    match usize::try_from(n).ok().and_then(|n| back.get(..n)) {
        Some(b) => Ok(response(b)),
        None if n == -2 => Err(HttpError::NotAllowed),
        None => Err(HttpError::NoAnswer),
    }
}

fn response(b: &[u8]) -> HttpResponse<'_> {
    let facts = Facts { head: &[], records: Records(b) };
    let status = facts.text(id::HTTP_STATUS, "").and_then(|s| s.parse().ok()).unwrap_or(0);
    HttpResponse { status, body: facts.value(id::HTTP_BODY, "").unwrap_or(b""), facts }
}

#[cfg(target_arch = "wasm32")]
mod raw {
    #[link(wasm_import_module = "nexus")]
    extern "C" {
        pub fn log(at: *const u8, len: usize);
        pub fn label_get(name: *const u8, name_len: usize, out: *mut u8, cap: usize) -> i32;
        pub fn label_set(name: *const u8, name_len: usize, value: *const u8, value_len: usize);
        pub fn call_get(id: u32, name: *const u8, name_len: usize, out: *mut u8, cap: usize) -> i32;
        pub fn model_set(at: *const u8, len: usize);
        pub fn pool_set(at: *const u8, len: usize);
        pub fn kv_get(key: *const u8, key_len: usize) -> i64;
        pub fn kv_incr_if(key: *const u8, key_len: usize, amount: i64, limit: i64, ttl_ms: i64) -> i64;
        pub fn vault_put(value: *const u8, value_len: usize, token: *const u8, token_len: usize);
        pub fn metric(name: *const u8, name_len: usize, amount: f64);
        pub fn now_ms() -> i64;
        pub fn random(at: *mut u8, len: usize);
        pub fn http_call(at: *const u8, len: usize, out: *mut u8, cap: usize) -> i32;
    }
}

#[cfg(not(target_arch = "wasm32"))]
use super::testing::raw;
