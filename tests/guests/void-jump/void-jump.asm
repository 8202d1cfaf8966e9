; Jumps to where no memory answers: FFh bytes are an invalid opcode, and nothing handles it.
        org 0x7c00
        bits 16
        %include "say.inc"
        say "void-jump: now"
        cli
        lidt [cs:nothing]
        lgdt [cs:gdt_pointer]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp dword 0x08:0xe0000000
        align 8
gdt     dq 0
        dq 0x00cf9a000000ffff
gdt_pointer:
        dw $ - gdt - 1
        dd gdt
nothing dw 0
        dd 0
        boot_sector
