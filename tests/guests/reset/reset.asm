; Resets the machine in three ways; a byte of CMOS RAM tells which is next.
        org 0x7c00
        bits 16
COUNTER equ 0x70                        ; CMOS bytes 70h-7Fh are nobody's
        %include "say.inc"
        cli
        mov al, COUNTER
        out 0x70, al
        in al, 0x71
        mov bl, al
        mov al, COUNTER
        out 0x70, al
        mov al, bl
        inc al
        out 0x71, al
        cmp bl, 1
        jb .keyboard
        je .port92
        cmp bl, 2
        je .cf9
        say "reset: all done"
.rest:  hlt
        jmp .rest
.keyboard:
        say "reset: keyboard controller"
        mov al, 0xfe                    ; pulse output line 0
        out 0x64, al
        jmp .rest
.port92:
        say "reset: port 92h"
        mov al, 0x01
        out 0x92, al
        jmp .rest
.cf9:
        say "reset: port CF9h"
        mov dx, 0xcf9
        mov al, 0x02
        out dx, al
        mov al, 0x06
        out dx, al
        jmp .rest
        boot_sector
