; Halts with interrupts off.
        org 0x7c00
        bits 16
        %include "say.inc"
        say "halt-forever: now"
        cli
        hlt
        boot_sector
