//! The loopback diagnostics of AN-937 and of DP8390D, "Loopback Diagnostics".

use super::crc;
use super::tests::*;

/// Sends what is in the transmit buffer; TSR, RSR, ISR.
fn run(rig: &mut Rig, count: u16) -> [u8; 3] {
    rig.out(ISR, 0xff);
    rig.send(count);
    let until = rig.bench.now + 10_000;
    rig.bench.advance(&mut rig.card, until);
    [TPSR, RCR, ISR].map(|register| rig.inp(register))
}

fn fifo(rig: &mut Rig) -> [u8; 8] {
    std::array::from_fn(|_| rig.inp(6))
}

/// A started card in byte mode with loopback selected and a packet for `to` in its buffer.
fn rig(tcr: u8, to: [u8; 6], length: usize) -> (Rig, Vec<u8>) {
    let mut rig = Rig::isa();
    rig.start();
    rig.out(DCR, 0x40);
    rig.out(RCR, 0);
    rig.out(TCR, tcr);
    let mut packet = [to, MAC].concat();
    packet.extend((12..length).map(|n| n as u8));
    rig.upload_bytes(&packet);
    (rig, packet)
}

impl Rig {
    fn upload_bytes(&mut self, bytes: &[u8]) {
        for (register, value) in
            [(RBCR0, bytes.len()), (RBCR1, bytes.len() >> 8), (RSAR0, 0), (RSAR1, 0x40), (CR, 0x12)]
        {
            self.out(register, value as u8);
        }
        for &byte in bytes {
            self.out(DATA, byte);
        }
    }
}

#[test]
fn the_status_tells_which_way_the_packet_went() {
    let mode = |tcr| {
        let (mut rig, _) = rig(tcr, MAC, 60);
        run(&mut rig, 60)
    };
    assert_eq!(mode(0x02), [0x51, 0x02, 0x06], "through the controller");
    assert_eq!(mode(0x04), [0x41, 0x02, 0x06], "through the encoder");
    assert_eq!(mode(0x06), [0x01, 0x02, 0x06], "through the transceiver");
    let (mut other, _) = rig(0x02, [2; 6], 60);
    assert_eq!(run(&mut other, 60), [0x51, 0x01, 0x02], "the address does not match");
}

#[test]
fn only_the_transceiver_lets_the_packet_out() {
    for (tcr, out) in [(0x02, false), (0x04, false), (0x06, true)] {
        let (mut rig, packet) = rig(tcr, MAC, 60);
        run(&mut rig, 60);
        assert_eq!(rig.card.take(), out.then_some(packet));
    }
}

#[test]
fn the_receiver_checks_a_sequence_that_software_appended() {
    let (mut rig, mut packet) = rig(0x03, MAC, 60);
    packet.extend(crc::frame_check(&packet));
    rig.upload_bytes(&packet);
    assert_eq!(run(&mut rig, 64), [0x51, 0x01, 0x02]);
    packet[63] ^= 0x80;
    rig.upload_bytes(&packet);
    assert_eq!(run(&mut rig, 64), [0x51, 0x02, 0x06]);
}

#[test]
fn the_fifo_holds_the_end_and_the_count_where_the_data_sheet_shows_them() {
    // 60 bytes and CRC: the last byte is in location 7, the count begins at 0.
    let (mut first, packet) = rig(0x02, MAC, 60);
    run(&mut first, 60);
    let check = crc::frame_check(&packet);
    assert_eq!(fifo(&mut first), [64, 0, 0, packet[59], check[0], check[1], check[2], check[3]]);
    // (N * 8) + 5 bytes received: BYTE N-4 is the first to be read.
    let (mut second, packet) = rig(0x02, MAC, 65);
    run(&mut second, 65);
    let check = crc::frame_check(&packet);
    assert_eq!(fifo(&mut second), [packet[64], check[0], check[1], check[2], check[3], 69, 0, 0]);
}

#[test]
fn in_word_mode_one_half_of_each_word_is_looped() {
    let (mut rig, packet) = rig(0x02, MAC, 60);
    let high: Vec<u8> = packet.iter().flat_map(|&byte| [0, byte]).collect();
    rig.upload_bytes(&high);
    rig.out(DCR, 0x41);
    assert_eq!(run(&mut rig, 120), [0x51, 0x02, 0x06], "byte order select 0: the high half");
    let low: Vec<u8> = packet.iter().flat_map(|&byte| [byte, 0]).collect();
    rig.out(DCR, 0x40);
    rig.upload_bytes(&low);
    assert_eq!(run(&mut rig, 120)[1], 0x01, "no address of ours");
    rig.out(DCR, 0x43);
    assert_eq!(run(&mut rig, 120), [0x51, 0x02, 0x06], "byte order select 1: the low half");
}

#[test]
fn group_addresses_go_through_the_filter() {
    let (mut rig, _) = rig(0x02, [0xff; 6], 60);
    assert_eq!(run(&mut rig, 60), [0x51, 0x01, 0x02]);
    rig.out(RCR, 0x04);
    assert_eq!(run(&mut rig, 60), [0x51, 0x22, 0x06]);
}
