//! The worker's configuration object (shape `MachineSetup` of `pkg/lib/protocol.js`) as the machine wants it.

use crate::blocks::{Stream, StreamedBlock};
use crate::error::js_error;
use emulator_core::cpu::state::CpuModel;
use emulator_core::devices::block::{BlockBackend, MemoryBlock};
use emulator_core::jit::Heat;
use emulator_core::machine::{ClockMode, DriveConfig, MachineConfig, NetworkConfig, NetworkKind};
use serde::Deserialize;
use wasm_bindgen::{JsCast, JsValue};

/// What is said in plain values.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    /// RAM in bytes.
    memory: f64,
    /// CPU model.
    cpu: Option<String>,
    /// Number of vCPUs.
    cpus: Option<usize>,
    /// Kernel command line.
    cmdline: Option<String>,
    /// QEMU's letters.
    boot_order: Option<String>,
    /// `realtime` or `deterministic`.
    clock: String,
    /// Seconds since 1970 UTC.
    start_time: f64,
    /// A network card.
    network: Option<Network>,
    /// Whether hot code is compiled.
    jit: Option<bool>,
    /// For tests: executions before code is compiled, and a seed that makes them differ.
    jit_threshold: Option<u32>,
    jit_seed: Option<u32>,
}

/// A network card.
#[derive(Debug, Deserialize)]
struct Network {
    /// Its address.
    mac: [u8; 6],
}

/// Reads a whole setup; the heat is that of the fast tier, if it is wanted; the streams are the worker's ends of streamed images, in the order fda, fdb, hda, hdb, cdrom.
///
/// # Errors
/// An `Error` when a value has the wrong type or an unknown name.
pub fn read(setup: &JsValue, serials: usize) -> Result<(MachineConfig, Vec<Stream>, Option<Heat>), JsValue> {
    let settings: Settings = serde_wasm_bindgen::from_value(setup.clone())
        .map_err(|error| js_error("bad-options", &format!("An option of the machine has a wrong type: {error}.")))?;
    let mut streams = Vec::new();
    let mut image = |name| image(setup, name, &mut streams);
    let floppies = [image("fda"), image("fdb")];
    let [hda, hdb] = [image("hda"), image("hdb")].map(|disk| disk.map(DriveConfig::Disk));
    // The drive is there without a disc, too, as on QEMU's machine.
    let cdrom = Some(DriveConfig::Cdrom(image("cdrom")));
    let config = MachineConfig {
        memory: settings.memory as u64,
        cpu: settings.cpu.as_deref().map(cpu_model).transpose()?,
        cpus: settings.cpus.unwrap_or(1),
        bios: bytes(setup, "bios").unwrap_or_default(),
        vga_bios: bytes(setup, "vgaBios").unwrap_or_default(),
        kernel: bytes(setup, "kernel"),
        initrd: bytes(setup, "initrd"),
        multiboot: bytes(setup, "multiboot"),
        cmdline: settings.cmdline.unwrap_or_default(),
        floppies,
        drives: [hda, hdb, cdrom, None],
        boot_order: settings.boot_order.unwrap_or_default(),
        boot_menu: None,
        clock: if settings.clock == "deterministic" { ClockMode::Deterministic } else { ClockMode::Realtime },
        start_time: settings.start_time as i64,
        serials,
        debug_exit: None,
        network: settings.network.map(|Network { mac }| NetworkConfig { mac, kind: NetworkKind::Pci }),
    };
    let mut heat = Heat::default();
    heat.threshold = settings.jit_threshold.unwrap_or(heat.threshold);
    heat.seed = settings.jit_seed.unwrap_or(heat.seed);
    Ok((config, streams, settings.jit.unwrap_or(true).then_some(heat)))
}

fn cpu_model(name: &str) -> Result<CpuModel, JsValue> {
    match name {
        "486" => Ok(CpuModel::I486),
        "pentium" => Ok(CpuModel::Pentium),
        "p3" => Ok(CpuModel::PentiumIII),
        "p4" => Ok(CpuModel::Pentium4),
        "nehalem" => Ok(CpuModel::Nehalem),
        _ => Err(js_error("bad-cpu", &format!("There is no CPU model `{name}`: use 486, pentium, p3, p4 or nehalem."))),
    }
}

fn property(object: &JsValue, name: &str) -> Option<JsValue> {
    let value = js_sys::Reflect::get(object, &name.into()).ok()?;
    (!value.is_undefined() && !value.is_null()).then_some(value)
}

/// The bytes of a property that holds a `Uint8Array`.
fn bytes(setup: &JsValue, name: &str) -> Option<Vec<u8>> {
    property(setup, name)?.dyn_into::<js_sys::Uint8Array>().ok().map(|array| array.to_vec())
}

/// The image of a property of shape `ImageSetup`; a streamed one adds its worker's end to `streams`.
fn image(setup: &JsValue, name: &str, streams: &mut Vec<Stream>) -> Option<Box<dyn BlockBackend>> {
    let image = property(setup, name)?;
    let read_only = property(&image, "readOnly").is_some_and(|value| value.is_truthy());
    Some(match bytes(&image, "data") {
        Some(data) => Box::new(MemoryBlock { data, read_only }),
        None => {
            let stream = Stream::new(property(&image, "size")?.as_f64()? as u64);
            let block = StreamedBlock::new(&stream, read_only);
            streams.push(stream);
            Box::new(block)
        }
    })
}
