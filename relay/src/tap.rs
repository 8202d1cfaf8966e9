//! A room bridged to a TAP interface of the host (Linux). What happens behind it is the host's business: the room has
//! no gateway, and the relay's policy does not apply.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::room::Rooms;
use crate::shared::Shared;

/// Opens the interface and bridges it until the relay stops; the reason when that is not possible.
#[cfg(target_os = "linux")]
pub fn start(
    name: &str,
    rooms: &Arc<Rooms>,
    shared: &Arc<Shared>,
    shutdown: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
) -> Result<(), String> {
    let tap = tokio_tun::Tun::builder()
        .name(name)
        .tap()
        .mtu(i32::from(shared.settings.limits.mtu))
        .up()
        .build()
        .map_err(|error| error.to_string())?
        .into_iter()
        .next()
        .ok_or("no queue")?;
    let member = rooms.bridge(&shared.settings.tap_room).map_err(|error| error.to_string())?;
    tracing::info!(interface = tap.name(), room = member.room.name(), "bridged");
    tokio::spawn(bridge(tap, member, Arc::clone(shared), shutdown, alive));
    Ok(())
}

#[cfg(target_os = "linux")]
async fn bridge(
    tap: tokio_tun::Tun,
    mut member: crate::room::Membership,
    shared: Arc<Shared>,
    mut shutdown: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
) {
    let Some(mut frames) = member.take_frames() else { return };
    let mut buffer = vec![0; shared.settings.max_frame()];
    loop {
        tokio::select! {
            read = tap.recv(&mut buffer) => match read {
                Ok(length) => member.room.input(&member.port, bytes::Bytes::copy_from_slice(&buffer[..length])),
                Err(error) => {
                    tracing::error!(%error, "TAP interface");
                    break;
                }
            },
            frame = frames.recv() => {
                let Some(frame) = frame else { break };
                // The interface is down, or the frame too long for it: Ethernet drops.
                if let Err(error) = tap.send(&frame).await {
                    tracing::debug!(%error, "TAP interface");
                }
            }
            () = crate::client::stopped(&mut shutdown) => break,
        }
    }
    drop(alive);
}

/// Elsewhere there is no TAP.
#[cfg(not(target_os = "linux"))]
pub fn start(
    _name: &str,
    _rooms: &Arc<Rooms>,
    _shared: &Arc<Shared>,
    _shutdown: watch::Receiver<bool>,
    _alive: mpsc::Sender<()>,
) -> Result<(), String> {
    Err("TAP interfaces are there on Linux only".to_owned())
}
