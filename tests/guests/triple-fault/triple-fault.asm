; An interrupt with an empty interrupt table: the fault about it and the double fault about that have no
; handlers either, so the CPU shuts down.
        org 0x7c00
        bits 16
        %include "say.inc"
        say "triple-fault: now"
        lidt [cs:nothing]
        int3
nothing dw 0
        dd 0
        boot_sector
