//! Host failures as JavaScript sees them: an `Error` with a `code` for programs and a sentence for people.

use wasm_bindgen::{JsCast, JsValue};

/// Makes the `Error`.
pub fn js_error(code: &str, message: &str) -> JsValue {
    let error: JsValue = js_sys::Error::new(message).unchecked_into();
    // Setting a property of a fresh object cannot fail.
    let _ = js_sys::Reflect::set(&error, &"code".into(), &code.into());
    error
}
