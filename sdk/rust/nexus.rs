//! What a Rust plugin of the gateway is written with: it turns the ABI's numbers and buffers into a [`Text`] to edit
//! and a [`Request`] to label. It depends on nothing but `core`. Depend on it as the crate `nexus`, or put its files
//! nexus*.rs beside the plugin and write `mod nexus;`.
//!
//! ```ignore
//! nexus::plugin! { on_text: mask }
//!
//! fn mask(t: &mut nexus::Text) { … }
//! ```
//!
//! [`plugin!`] exports the hooks it names, and to export a hook is to subscribe to it. A host function is imported by
//! calling it, and is then a capability that the manifest asks for. A plugin keeps no state between calls but what it
//! was configured with: any instance may be asked about any piece of any text, and may be thrown away after it. A
//! panic is a trap, which ends the instance; the plugin's failure rule decides the call.

#![allow(dead_code)] // a plugin uses what it needs

#[cfg(not(target_arch = "wasm32"))]
extern crate std;

#[path = "nexus_calls.rs"]
mod calls;
#[path = "nexus_records.rs"]
mod records;
#[path = "nexus_text.rs"]
mod text;
pub use calls::*;
pub use records::{Facts, Records};
use records::Said;
pub use text::*;

#[path = "nexus_json.rs"]
pub mod json;

#[cfg(not(target_arch = "wasm32"))]
#[path = "nexus_testing.rs"]
pub mod testing;

/// Names of records, as the ABI numbers them.
pub mod id {
    pub const IN_ID: u16 = 1;
    pub const IN_ROUTE: u16 = 2;
    pub const IN_MODEL: u16 = 3;
    pub const IN_PRINCIPAL: u16 = 4;
    pub const IN_TENANT: u16 = 5;
    pub const IN_TEAM: u16 = 6;
    pub const IN_TIER: u16 = 7;
    pub const IN_PRINCIPAL_LABEL: u16 = 8;
    pub const IN_LABEL: u16 = 9;
    pub const IN_TOOL: u16 = 10;
    pub const IN_HEADER: u16 = 11;
    pub const IN_TOOL_CALL_ID: u16 = 12;
    pub const IN_TOOL_NAME: u16 = 13;
    pub const IN_ARGUMENTS: u16 = 14;
    pub const IN_SCHEMA: u16 = 15;
    pub const IN_BACKEND: u16 = 16;
    pub const IN_ERROR: u16 = 17;

    pub const OUT_LABEL: u16 = 1;
    pub const OUT_HEADER: u16 = 2;
    pub const OUT_MODEL: u16 = 3;
    pub const OUT_STATUS: u16 = 4;
    pub const OUT_CODE: u16 = 5;
    pub const OUT_MESSAGE: u16 = 6;
    pub const OUT_ARGUMENTS: u16 = 7;
    pub const OUT_TEXT: u16 = 8;
    pub const OUT_POOL: u16 = 9;
    pub const OUT_REQUEST_HEADER: u16 = 10;
    pub const OUT_DROP_HEADER: u16 = 11;
    pub const OUT_SYSTEM: u16 = 12;
    pub const OUT_RETRY: u16 = 13;

    pub const HTTP_METHOD: u16 = 1;
    pub const HTTP_URL: u16 = 2;
    pub const HTTP_HEADER: u16 = 3;
    pub const HTTP_BODY: u16 = 4;
    pub const HTTP_STATUS: u16 = 5;
}

/// The most text, its context included, that a handler is asked about.
pub const MAX_PIECE: usize = 32 << 10;

const IN_CAP: usize = 256 << 10;
const EDIT_SIZE: usize = 20;
const EDIT_CAP: usize = MAX_PIECE / 4 * EDIT_SIZE;
const OUT_CAP: usize = 256 << 10;
const REPORT_ONLY: u32 = 0xffff_ffff;

/// The buffers as one call uses them.
#[doc(hidden)]
pub struct Buffers<'a> {
    pub input: &'a [u8],
    pub edits: &'a mut [u8],
    pub out: &'a mut [u8],
}

/// Runs a configure handler: it gets the configuration, a JSON object, and returns why it refuses the plugin at load.
#[doc(hidden)]
pub fn run_configure<E: AsRef<str>>(b: Buffers, f: impl FnOnce(json::Value) -> Result<(), E>) -> u64 {
    let mut said = Said::new(b.out);
    let text = if b.input.is_empty() { b"{}" } else { b.input };
    match json::Value::read(text).filter(|v| v.is_object()) {
        None => said.fail("configuration is not a JSON object"),
        Some(config) => {
            if let Err(reason) = f(config) {
                said.fail(reason.as_ref());
            }
        }
    }
    said.result()
}

/// Exports the plugin's hooks; to export a hook is to subscribe to it. Write it once, in the root of the plugin, where
/// this module is known as `nexus`. All parts are optional, in this order:
///
/// ```ignore
/// nexus::plugin! {
///     configure: configure,       // fn(nexus::json::Value) -> Result<(), E>, E: AsRef<str>
///     on_request: on_request,     // fn(&mut nexus::Request)
///     on_text: mask,              // fn(&mut nexus::Text)
///     on_tool_call: on_tool_call, // fn(&mut nexus::ToolCall)
///     on_usage: on_usage,         // fn(&mut nexus::Usage)
///     on_end: on_end,             // fn(&nexus::End)
/// }
/// ```
#[macro_export]
macro_rules! plugin {
    ($($hook:ident: $f:path),* $(,)?) => {
        #[cfg(target_arch = "wasm32")]
        mod nexus_exports {
            use super::*;

            #[no_mangle]
            pub extern "C" fn nexus_abi_1() {}

            #[no_mangle]
            pub extern "C" fn nexus_buffers() -> *const u32 {
                nexus::guest::table()
            }

            $($crate::plugin!(@wasm $hook $f);)*
        }

        $(#[cfg(not(target_arch = "wasm32"))]
        $crate::plugin!(@native $hook $f);)*
    };
    (@wasm configure $f:path) => {
        #[no_mangle]
        pub extern "C" fn nexus_configure(n: u32) -> u64 {
            nexus::guest::with(n, |b| nexus::run_configure(b, |config| $f(config)))
        }
    };
    (@wasm on_request $f:path) => {
        #[no_mangle]
        pub extern "C" fn nexus_on_request(n: u32) -> u64 {
            nexus::guest::with(n, |b| nexus::run_request(b, |r| $f(r)))
        }
    };
    (@wasm on_text $f:path) => {
        #[no_mangle]
        pub extern "C" fn nexus_on_text(n: u32, flags: u32) -> u64 {
            nexus::guest::with(n, |b| nexus::run_text(b, flags, |t| $f(t)))
        }
    };
    (@wasm on_tool_call $f:path) => {
        #[no_mangle]
        pub extern "C" fn nexus_on_tool_call(n: u32) -> u64 {
            nexus::guest::with(n, |b| nexus::run_tool_call(b, |c| $f(c)))
        }
    };
    (@wasm on_usage $f:path) => {
        #[no_mangle]
        pub extern "C" fn nexus_on_usage(n: u32) -> u64 {
            nexus::guest::with(n, |b| nexus::run_usage(b, |u| $f(u)))
        }
    };
    (@wasm on_end $f:path) => {
        #[no_mangle]
        pub extern "C" fn nexus_on_end(n: u32) {
            nexus::guest::with(n, |b| {
                nexus::run_end(b, |e| $f(e));
                0
            });
        }
    };
    // A native build exports nothing, but the handlers are of the right type there too.
    (@native configure $f:path) => {
        #[allow(dead_code)]
        fn nexus_configure(v: nexus::json::Value) {
            let _ = $f(v);
        }
    };
    (@native on_request $f:path) => { #[allow(dead_code)] fn nexus_on_request(r: &mut nexus::Request) { $f(r) } };
    (@native on_text $f:path) => { #[allow(dead_code)] fn nexus_on_text(t: &mut nexus::Text) { $f(t) } };
    (@native on_tool_call $f:path) => { #[allow(dead_code)] fn nexus_on_tool_call(c: &mut nexus::ToolCall) { $f(c) } };
    (@native on_usage $f:path) => { #[allow(dead_code)] fn nexus_on_usage(u: &mut nexus::Usage) { $f(u) } };
    (@native on_end $f:path) => { #[allow(dead_code)] fn nexus_on_end(e: &nexus::End) { $f(e) } };
}

/// What the plugin was configured with: set once by the configure handler, read ever after.
pub struct Kept<T> {
    state: core::sync::atomic::AtomicU8, // 0: empty, 1: being set, 2: set
    value: core::cell::UnsafeCell<Option<T>>,
}

// SAFETY: the value is written by the one who moved state from 0 to 1, and read only after state is 2.
unsafe impl<T: Send + Sync> Sync for Kept<T> {}

impl<T> Kept<T> {
    pub const fn new() -> Kept<T> {
        Kept { state: core::sync::atomic::AtomicU8::new(0), value: core::cell::UnsafeCell::new(None) }
    }

    /// Sets the value. A second time changes nothing: the host configures an instance once.
    pub fn set(&self, value: T) {
        use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
        if self.state.compare_exchange(0, 1, Acquire, Relaxed).is_ok() {
            // SAFETY: nobody else writes, and nobody reads before state is 2.
            unsafe { *self.value.get() = Some(value) };
            self.state.store(2, Release);
        }
    }

    /// The value, if it was set.
    pub fn get(&self) -> Option<&T> {
        if self.state.load(core::sync::atomic::Ordering::Acquire) != 2 {
            return None;
        }
        // SAFETY: nobody writes once state is 2.
        unsafe { (*self.value.get()).as_ref() }
    }
}

/// Makes a panic a trap, for a plugin that is `#![no_std]`.
#[macro_export]
macro_rules! panic_traps {
    () => {
        #[cfg(target_arch = "wasm32")]
        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo) -> ! {
            core::arch::wasm32::unreachable()
        }
    };
}

#[allow(unused_imports)]
pub use crate::{panic_traps, plugin};

/// The gateway: what it offers beside the hooks. Each function that is called is a capability of its name.
#[path = "nexus_host.rs"]
pub mod host;

/// The guest's buffers.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod guest {
    use super::{Buffers, EDIT_CAP, IN_CAP, OUT_CAP};
    use core::cell::UnsafeCell;

    #[repr(C, align(16))]
    struct Static<T>(UnsafeCell<T>);

    // SAFETY: a guest has one thread.
    unsafe impl<T> Sync for Static<T> {}

    static IN: Static<[u8; IN_CAP]> = Static(UnsafeCell::new([0; IN_CAP]));
    static EDITS: Static<[u8; EDIT_CAP]> = Static(UnsafeCell::new([0; EDIT_CAP]));
    static OUT: Static<[u8; OUT_CAP]> = Static(UnsafeCell::new([0; OUT_CAP]));
    static TABLE: Static<[u32; 6]> = Static(UnsafeCell::new([0; 6]));

    pub fn table() -> *const u32 {
        let table = TABLE.0.get();
        let all = [IN.0.get() as u32, IN_CAP as u32, EDITS.0.get() as u32, EDIT_CAP as u32, OUT.0.get() as u32, OUT_CAP as u32];
        // SAFETY: a guest has one thread.
        unsafe { *table = all };
        table as *const u32
    }

    /// Runs f on the n bytes that the host has left in the in buffer. The host calls one hook at a time, and hooks do
    /// not call each other: nobody else has the buffers meanwhile.
    pub fn with(n: u32, f: impl FnOnce(Buffers) -> u64) -> u64 {
        if n as usize > IN_CAP {
            return 1 << 40; // the host broke its promise, and there is nothing to say it with
        }
        // SAFETY: see above; n is within the buffer.
        unsafe {
            f(Buffers {
                input: core::slice::from_raw_parts(IN.0.get() as *const u8, n as usize),
                edits: &mut *EDITS.0.get(),
                out: &mut *OUT.0.get(),
            })
        }
    }
}
