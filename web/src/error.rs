//! Host failures as JavaScript sees them: an `Error` with a `code` for programs and a sentence for people.

use emulator_core::machine::ConfigError;
use wasm_bindgen::{JsCast, JsValue};

/// Makes the `Error`.
pub fn js_error(code: &str, message: &str) -> JsValue {
    let error: JsValue = js_sys::Error::new(message).unchecked_into();
    // Setting a property of a fresh object cannot fail.
    let _ = js_sys::Reflect::set(&error, &"code".into(), &code.into());
    error
}

/// A configuration that makes no machine, as a sentence.
pub fn config_error(error: &ConfigError) -> JsValue {
    let text = error.to_string();
    let mut rest = text.chars();
    let first: String = rest.next().into_iter().flat_map(char::to_uppercase).collect();
    let stop = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    js_error(error.code(), &format!("{first}{}{stop}", rest.as_str()))
}
