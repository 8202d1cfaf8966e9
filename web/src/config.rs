//! The worker's configuration object (shape `MachineSetup` of `pkg/lib/protocol.js`) as the machine wants it.

use crate::blocks::{Stream, StreamedBlock};
use crate::error::js_error;
use emulator_core::devices::block::{BlockBackend, MemoryBlock};
use serde::Deserialize;
use wasm_bindgen::{JsCast, JsValue};

/// What is said in plain values.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// RAM in bytes.
    pub memory: f64,
    /// CPU model.
    pub cpu: Option<String>,
    /// Number of vCPUs.
    pub cpus: Option<u32>,
    /// Kernel command line.
    pub cmdline: Option<String>,
    /// QEMU's letters.
    pub boot_order: Option<String>,
    /// `realtime` or `deterministic`.
    pub clock: Option<String>,
}

/// Reads the plain values.
pub fn settings(setup: &JsValue) -> Result<Settings, JsValue> {
    serde_wasm_bindgen::from_value(setup.clone())
        .map_err(|error| js_error("bad-option", &format!("An option of the machine has a wrong type: {error}.")))
}

fn property(object: &JsValue, name: &str) -> Option<JsValue> {
    let value = js_sys::Reflect::get(object, &name.into()).ok()?;
    (!value.is_undefined() && !value.is_null()).then_some(value)
}

/// The bytes of a property that holds a `Uint8Array`.
pub fn bytes(setup: &JsValue, name: &str) -> Option<Vec<u8>> {
    property(setup, name)?.dyn_into::<js_sys::Uint8Array>().ok().map(|array| array.to_vec())
}

/// What a drive or a floppy holds.
pub struct Image {
    /// The bytes.
    pub backend: Box<dyn BlockBackend>,
    /// A CD-ROM and no disk.
    pub cdrom: bool,
}

/// The image of a property of shape `ImageSetup`; a streamed one adds its worker's end to `streams`.
pub fn image(setup: &JsValue, name: &str, streams: &mut Vec<Stream>) -> Option<Image> {
    let image = property(setup, name)?;
    let flag = |name| property(&image, name).is_some_and(|value| value.is_truthy());
    let read_only = flag("readOnly");
    let backend: Box<dyn BlockBackend> = match bytes(&image, "data") {
        Some(data) => Box::new(MemoryBlock { data, read_only }),
        None => {
            let stream = Stream::new(property(&image, "size")?.as_f64()? as u64);
            let block = StreamedBlock::new(&stream, read_only);
            streams.push(stream);
            Box::new(block)
        }
    };
    Some(Image { backend, cdrom: flag("cdrom") })
}
