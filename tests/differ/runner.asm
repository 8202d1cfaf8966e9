; Runs test cases of one instruction each, in real mode, protected mode (rings 0 and 3, 16 and 32 bits) and virtual-8086
; mode, and writes what became of each to port 402h: `cargo xtask differ` runs this on tab86 and on QEMU and compares.
;
; Every case starts with fresh tables and memory and with TF set, so that it ends in exactly one exception: #DB behind the
; instruction, or its fault. A double fault is taken by a task of its own.
        org 0x7c00
        bits 16

CASES   equ 0x10000                     ; a count, then from 80h on cases of 80h bytes
RUNNER  equ 0x8000
SECTORS equ (0x70000 - RUNNER) / 512
; A case.
C_MODE  equ 0                           ; 0 real, 1 ring 0, 2 ring 3, 3 ring 3 with 16 bits, 4 virtual-8086
C_CODE  equ 2                           ; 14 bytes
C_REGS  equ 16                          ; EAX ECX EDX EBX EBP ESI EDI
C_ESP   equ 44
C_SEGS  equ 48                          ; DS ES FS GS
C_FLAGS equ 56
C_MASK  equ 60                          ; the flags that are defined behind it
C_STACK equ 64                          ; 16 double words from ESP on
; Memory above 1 MiB.
PRISTINE equ 0x100000                   ; GDT, LDT, TSS and second TSS, 400h bytes, copied to LIVE for each case
LIVE    equ 0x101000
L_GDT   equ LIVE
L_LDT   equ LIVE + 0x100
L_TSS   equ LIVE + 0x200
L_TSS3  equ LIVE + 0x300
TSS_DF  equ 0x103000
IDT     equ 0x104000
RSTACK  equ 0x110000                    ; the runner's stack, and that of handlers
WINDOWS equ 0x200000                    ; data, code and stack windows of protected mode, 10000h apart
; Selectors.
S_CODE  equ 0x08
S_DATA  equ 0x10
S_DATA16 equ 0xd0
S_CODE16 equ 0xd8
S_TSS   equ 0x58
S_LDT   equ 0x68

        cli
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        mov [drive], dl
        mov di, 1
load:   mov ax, di
        xor dx, dx
        mov bx, 18
        div bx
        mov cl, dl
        inc cl
        xor dx, dx
        mov bx, 2
        div bx
        mov ch, al
        mov dh, dl
        mov dl, [drive]
        mov es, [load_at]
        xor bx, bx
        mov ax, 0x0201
        int 0x13
        jc load
        add word [load_at], 0x20
        inc di
        cmp di, SECTORS
        jbe load
        cli
        mov al, 0xff
        out 0x21, al
        out 0xa1, al
        in al, 0x92
        or al, 2
        and al, 0xfe
        out 0x92, al
        lgdt [boot_gdtr]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp dword S_CODE:start
drive:  db 0
load_at: dw RUNNER / 16
boot_gdtr: dw 0xff
        dd gdt
        times 510 - ($ - $$) db 0
        dw 0xaa55

        times RUNNER - 0x7c00 - ($ - $$) db 0
        bits 32
start:  mov ax, S_DATA
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov esp, RSTACK
        cld
        mov esi, gdt
        mov edi, PRISTINE
        mov ecx, 0x400 / 4
        rep movsd
        ; The IDT: interrupt gates, every second one open to ring 3.
        mov edi, IDT
        mov eax, stubs
        xor ecx, ecx
.gate:  mov edx, eax
        and edx, 0xffff
        or edx, S_CODE << 16
        mov [edi], edx
        mov edx, eax
        and edx, 0xffff0000
        mov dh, 0x8e
        test cl, 1
        jz .low
        cmp cl, 0x20
        jb .low
        mov dh, 0xee
.low:   mov [edi + 4], edx
        add eax, 12
        add edi, 8
        inc ecx
        cmp ecx, 256
        jb .gate
        mov byte [IDT + 3 * 8 + 5], 0xee
        mov byte [IDT + 4 * 8 + 5], 0xee
        mov dword [IDT + 8 * 8], 0x60 << 16
        mov dword [IDT + 8 * 8 + 4], 0x8500
        ; The task that takes double faults.
        mov edi, TSS_DF
        xor eax, eax
        mov ecx, 0x68 / 4
        rep stosd
        mov dword [TSS_DF + 32], double_fault
        mov dword [TSS_DF + 36], 2
        mov dword [TSS_DF + 56], RSTACK
        mov dword [TSS_DF + 72], S_DATA
        mov dword [TSS_DF + 76], S_CODE
        mov dword [TSS_DF + 80], S_DATA
        mov dword [TSS_DF + 84], S_DATA
        ; The vectors of real mode.
        mov edi, 0
        mov eax, stubs16
.vector: mov [edi], eax
        add eax, 6
        add edi, 4
        cmp edi, 0x400
        jb .vector
        mov dword [case_number], 0

next_case:
        mov ax, S_DATA
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov esp, RSTACK
        push dword 2
        popfd
        mov esi, PRISTINE
        mov edi, LIVE
        mov ecx, 0x400 / 4
        rep movsd
        lgdt [live_gdtr]
        lidt [live_idtr]
        mov ax, S_LDT
        lldt ax
        mov ax, S_TSS
        ltr ax
        clts
        xor eax, eax
        mov dr6, eax
        mov eax, [case_number]
        cmp eax, [CASES]
        jae finished
        inc dword [case_number]
        shl eax, 7
        lea ebp, [eax + CASES + 0x80]
        mov [case], ebp
        ; Windows: data, code, stack of this mode.
        mov eax, WINDOWS
        mov ebx, WINDOWS + 0x10000
        mov edx, WINDOWS + 0x20000
        cmp byte [ebp + C_MODE], 0
        je .low
        cmp byte [ebp + C_MODE], 4
        jne .high
.low:   mov eax, 0x80000
        mov ebx, 0x70000
        mov edx, 0x78000
.high:  mov [window], eax
        mov [window + 4], ebx
        mov [window + 8], edx
        mov edi, eax
        mov ecx, 0x400
        mov eax, 0x12345678
.data:  stosd
        imul eax, eax, 1664525
        add eax, 1013904223
        loop .data
        mov edi, ebx
        mov ecx, 0x400
        mov eax, 0xcccccccc
        rep stosd
        lea esi, [ebp + C_CODE]
        lea edi, [ebx + 0x400]
        mov ecx, 14
        rep movsb
        mov edi, edx
        mov ecx, 0x400
        mov eax, 0x00000800
        rep stosd
        lea esi, [ebp + C_STACK]
        mov edi, [ebp + C_ESP]
        add edi, edx
        mov ecx, 16
        rep movsd
        ; The case's registers to fixed places.
        lea esi, [ebp + C_REGS]
        mov edi, r_eax
        mov ecx, 12
        rep movsd
        movzx eax, byte [ebp + C_MODE]
        jmp [entries + eax * 4]
entries: dd enter_real, enter_ring0, enter_ring3, enter_ring3_16, enter_vm86

enter_ring0:
        mov edx, [window + 8]
        add edx, [r_esp]
        mov eax, [r_flags]
        mov [edx - 4], eax
        mov dword [edx - 8], 0x18
        mov dword [edx - 12], 0x400
        mov eax, [r_esp]
        sub eax, 12
        mov [far_stack], eax
        mov word [far_stack + 4], 0x28
        lss esp, [far_stack]
        jmp load_registers
enter_ring3:
        push dword 0x40 | 3
        push dword [r_esp]
        push dword [r_flags]
        push dword 0x30 | 3
        push dword 0x400
        jmp load_registers
enter_ring3_16:
        push dword 0x50 | 3
        push dword [r_esp]
        push dword [r_flags]
        push dword 0x48 | 3
        push dword 0x400
load_registers:
        mov ax, [cs:r_segs + 2]
        mov es, ax
        mov ax, [cs:r_segs + 4]
        mov fs, ax
        mov ax, [cs:r_segs + 6]
        mov gs, ax
        mov ax, [cs:r_segs]
        mov ds, ax
        jmp load_general
enter_vm86:
        movzx eax, word [r_segs + 6]
        push eax
        movzx eax, word [r_segs + 4]
        push eax
        movzx eax, word [r_segs]
        push eax
        movzx eax, word [r_segs + 2]
        push eax
        push dword 0x7800
        push dword [r_esp]
        mov eax, [r_flags]
        or eax, 0x20000
        push eax
        push dword 0x7000
        push dword 0x400
load_general:
        mov eax, [cs:r_eax]
        mov ecx, [cs:r_eax + 4]
        mov edx, [cs:r_eax + 8]
        mov ebx, [cs:r_eax + 12]
        mov ebp, [cs:r_eax + 16]
        mov esi, [cs:r_eax + 20]
        mov edi, [cs:r_eax + 24]
        iretd

enter_real:
        lidt [ivtr]
        jmp S_CODE16:.sixteen
        bits 16
.sixteen:
        mov ax, S_DATA16
        mov ds, ax
        mov es, ax
        mov fs, ax
        mov gs, ax
        mov ss, ax
        mov eax, cr0
        and al, 0xfe
        mov cr0, eax
        jmp 0:.real
.real:  xor ax, ax
        mov ds, ax
        mov ax, 0x7800
        mov ss, ax
        mov esp, [r_esp]
        push word [r_flags]
        push word 0x7000
        push word 0x400
        mov es, [r_segs + 2]
        mov fs, [r_segs + 4]
        mov gs, [r_segs + 6]
        mov eax, [r_eax]
        mov ecx, [r_eax + 4]
        mov edx, [r_eax + 8]
        mov ebx, [r_eax + 12]
        mov ebp, [r_eax + 16]
        mov esi, [r_eax + 20]
        mov edi, [r_eax + 24]
        mov ds, [r_segs]
        iret

common16:
        mov [cs:o_eax], eax
        mov [cs:o_eax + 4], ecx
        mov [cs:o_eax + 8], edx
        mov [cs:o_eax + 12], ebx
        mov [cs:o_eax + 16], ebp
        mov [cs:o_eax + 20], esi
        mov [cs:o_eax + 24], edi
        mov word [cs:o_ds + 2], 0
        mov [cs:o_ds], ds
        mov [cs:o_es], es
        mov [cs:o_fs], fs
        mov [cs:o_gs], gs
        xor eax, eax
        mov ds, ax
        mov [o_vector], eax
        mov [o_error], eax
        mov [o_eip], eax
        mov [o_cs], eax
        mov [o_flags], eax
        mov [o_ss], eax
        pop word [o_vector]
        pop word [o_eip]
        pop word [o_cs]
        pop word [o_flags]
        mov [o_esp], esp
        mov bp, sp
        mov word [bp - 2], 0
        mov [o_ss], ss
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp dword S_CODE:report

stubs16:
%assign n 0
%rep 256
        db 0x68
        dw n
        jmp near common16
%assign n n + 1
%endrep

        bits 32
stubs:
%assign n 0
%rep 256
%if n == 8 || (n >= 10 && n <= 14) || n == 17
        nop
        nop
%else
        db 0x6a, 0
%endif
        db 0x68
        dd n
        jmp near common32
%assign n n + 1
%endrep

common32: pushad
        ; A push of a segment register may leave the upper half alone, and memory is summed.
        mov eax, ds
        push eax
        mov eax, es
        push eax
        mov eax, fs
        push eax
        mov eax, gs
        push eax
        mov ax, S_DATA
        mov ds, ax
        mov es, ax
        cld
        mov eax, [ss:esp + 44]
        mov [o_eax], eax
        mov eax, [ss:esp + 40]
        mov [o_eax + 4], eax
        mov eax, [ss:esp + 36]
        mov [o_eax + 8], eax
        mov eax, [ss:esp + 32]
        mov [o_eax + 12], eax
        mov eax, [ss:esp + 24]
        mov [o_eax + 16], eax
        mov eax, [ss:esp + 20]
        mov [o_eax + 20], eax
        mov eax, [ss:esp + 16]
        mov [o_eax + 24], eax
        movzx eax, word [ss:esp + 12]
        mov [o_ds], eax
        movzx eax, word [ss:esp + 8]
        mov [o_es], eax
        movzx eax, word [ss:esp + 4]
        mov [o_fs], eax
        movzx eax, word [ss:esp]
        mov [o_gs], eax
        mov eax, [ss:esp + 48]
        mov [o_vector], eax
        mov eax, [ss:esp + 52]
        mov [o_error], eax
        mov eax, [ss:esp + 56]
        mov [o_eip], eax
        movzx eax, word [ss:esp + 60]
        mov [o_cs], eax
        mov eax, [ss:esp + 64]
        mov [o_flags], eax
        test eax, 0x20000
        jnz .vm86
        test byte [ss:esp + 60], 3
        jnz .outer
        ; The frame is in the summed window; its flags are compared apart, without the undefined ones.
        mov dword [ss:esp + 64], 0
        lea eax, [esp + 68]
        mov [o_esp], eax
        xor eax, eax
        mov ax, ss
        mov [o_ss], eax
        jmp report
.vm86:  movzx eax, word [ss:esp + 76]
        mov [o_es], eax
        movzx eax, word [ss:esp + 80]
        mov [o_ds], eax
        movzx eax, word [ss:esp + 84]
        mov [o_fs], eax
        movzx eax, word [ss:esp + 88]
        mov [o_gs], eax
.outer: mov eax, [ss:esp + 68]
        mov [o_esp], eax
        movzx eax, word [ss:esp + 72]
        mov [o_ss], eax
        jmp report

; A double fault: what is known of it is in the TSS of the task that it ended.
double_fault:
        mov esi, L_TSS + 40
        mov edi, o_eax
        mov ecx, 4
        rep movsd
        mov eax, [L_TSS + 60]
        stosd
        mov eax, [L_TSS + 64]
        stosd
        mov eax, [L_TSS + 68]
        stosd
        mov dword [o_vector], 8
        mov dword [o_error], 0
        mov eax, [L_TSS + 32]
        mov [o_eip], eax
        mov eax, [L_TSS + 36]
        mov [o_flags], eax
        mov eax, [L_TSS + 56]
        mov [o_esp], eax
        xor eax, eax
        mov ax, [L_TSS + 72]
        mov [o_es], eax
        mov ax, [L_TSS + 76]
        mov [o_cs], eax
        mov ax, [L_TSS + 80]
        mov [o_ss], eax
        mov ax, [L_TSS + 84]
        mov [o_ds], eax
        mov ax, [L_TSS + 88]
        mov [o_fs], eax
        mov ax, [L_TSS + 92]
        mov [o_gs], eax

report: mov ax, S_DATA
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov esp, RSTACK
        cld
        xor eax, eax
        str ax
        mov [o_tr], eax
        mov ebp, [case]
        mov eax, [ebp + C_MASK]
        and [o_flags], eax
        xor ebx, ebx
        xor edx, edx
.window: mov esi, [window + edx * 4]
        mov ecx, 0x400
.sum:   lodsd
        xor ebx, eax
        rol ebx, 5
        add ebx, eax
        loop .sum
        inc edx
        cmp edx, 3
        jb .window
        mov [o_sum], ebx
        mov al, '#'
        call put
        mov eax, [case_number]
        call hex
        mov esi, output
        mov ecx, (output_end - output) / 4
.field: push ecx
        lodsd
        call hex
        pop ecx
        loop .field
        mov al, 10
        call put
        jmp next_case

; EAX in hexadecimal without leading zeros, behind a space.
hex:    mov edx, eax
        mov al, ' '
        call put
        mov ecx, 8
.skip:  rol edx, 4
        test dl, 15
        jnz .digit
        loop .skip
        inc ecx
.digit: mov al, dl
        and al, 15
        add al, '0'
        cmp al, '9'
        jbe .put
        add al, 'a' - '9' - 1
.put:   call put
        rol edx, 4
        loop .digit
        ret

put:    push edx
        mov dx, 0x402
        out dx, al
        pop edx
        ret

finished:
        mov al, 10
        call put
        mov al, '#'
        call put
        mov al, '!'
        call put
        mov al, 10
        call put
        mov dx, 0xf4
        mov eax, 0
        out dx, eax
.rest:  hlt
        jmp .rest

        align 4
live_gdtr: dw 0xff
        dd L_GDT
        align 4
live_idtr: dw 0x7ff
        dd IDT
        align 4
ivtr:   dw 0x3ff
        dd 0
        align 4
far_stack: dd 0, 0
case_number: dd 0
case:   dd 0
window: dd 0, 0, 0
r_eax:  dd 0, 0, 0, 0, 0, 0, 0
r_esp:  dd 0
r_segs: dw 0, 0, 0, 0
r_flags: dd 0
r_mask: dd 0
output:
o_vector: dd 0
o_error: dd 0
o_eip:  dd 0
o_cs:   dd 0
o_flags: dd 0
o_eax:  dd 0, 0, 0, 0, 0, 0, 0
o_esp:  dd 0
o_ss:   dd 0
o_ds:   dd 0
o_es:   dd 0
o_fs:   dd 0
o_gs:   dd 0
o_tr:   dd 0
o_sum:  dd 0
output_end:

; base, limit, access, flags
%macro desc 4
        dw (%2) & 0xffff, (%1) & 0xffff
        db ((%1) >> 16) & 0xff, %3, ((%2) >> 16) & 15 | (%4) << 4, ((%1) >> 24) & 0xff
%endmacro
; selector, offset, parameters, access
%macro gate 4
        dw (%2) & 0xffff, %1
        db %3, %4
        dw (%2) >> 16
%endmacro
DATA_AT equ WINDOWS
CODE_AT equ WINDOWS + 0x10000
STACK_AT equ WINDOWS + 0x20000
        align 16
gdt:    dq 0
        desc 0, 0xfffff, 0x9b, 0xc      ; 08
        desc 0, 0xfffff, 0x93, 0xc      ; 10
        desc CODE_AT, 0xffff, 0x9b, 4        ; 18 code, ring 0
        desc DATA_AT, 0xffff, 0x93, 4        ; 20 data, ring 0
        desc STACK_AT, 0xffff, 0x93, 4        ; 28 stack, ring 0
        desc CODE_AT, 0xffff, 0xfb, 4        ; 30 code, ring 3
        desc DATA_AT, 0xffff, 0xf3, 4        ; 38 data, ring 3
        desc STACK_AT, 0xffff, 0xf3, 4        ; 40 stack, ring 3
        desc CODE_AT, 0xffff, 0xfb, 0        ; 48 16-bit code, ring 3
        desc STACK_AT, 0xffff, 0xf3, 0        ; 50 16-bit stack, ring 3
        desc L_TSS, 0xff, 0x89, 0       ; 58
        desc TSS_DF, 0x67, 0x89, 0      ; 60
        desc L_LDT, 0xff, 0x82, 0       ; 68
        desc CODE_AT, 0xffff, 0x9e, 4        ; 70 conforming
        desc DATA_AT, 0xffff, 0xf0, 4        ; 78 read-only
        desc CODE_AT, 0xffff, 0xf8, 4        ; 80 execute-only
        desc DATA_AT, 0xffff, 0x72, 4        ; 88 not present
        desc DATA_AT, 0x7ff, 0xf6, 4         ; 90 expand-down
        gate 0x18, 0x800, 0, 0xec       ; 98 call gate for ring 3
        gate 0x18, 0x800, 2, 0xec       ; a0 with parameters
        gate 0x18, 0x800, 1, 0xe4       ; a8 16-bit
        gate 0x18, 0x800, 0, 0x8c       ; b0 for ring 0
        gate 0x18, 0x800, 0, 0x6c       ; b8 not present
        gate 0xc8, 0, 0, 0xe5           ; c0 task gate
        desc L_TSS3, 0x67, 0x89, 0      ; c8
        desc 0, 0xffff, 0x93, 0         ; d0
        desc 0, 0xffff, 0x9b, 0         ; d8
        desc CODE_AT, 0xffff, 0xba, 4        ; e0 code, ring 1
        gate 0x70, 0x800, 0, 0xec       ; e8 call gate to conforming code
        desc L_TSS3, 0x20, 0xe9, 0      ; f0 TSS too short
        desc STACK_AT, 0xffff, 0xb3, 4        ; f8 stack, ring 1
        ; LDT
        desc DATA_AT, 0xffff, 0xf2, 4        ; 04
        desc DATA_AT, 0xffff, 0x92, 4        ; 0c
        desc CODE_AT, 0xffff, 0xfa, 4        ; 14
        gate 0x18, 0x800, 0, 0xec       ; 1c
        times 256 - 32 db 0
        ; TSS: stacks of rings 0 and 1; the I/O bitmap allows ports 80h-87h
        dd 0, RSTACK, S_DATA, 0xe00, 0xf8 | 1, 0, 0
        times 0x66 - 28 db 0
        dw 0x68
        times 0x80 / 8 db 0xff
        db 0
        times 256 - 0x68 - 0x80 / 8 - 1 db 0xff
        ; A task that stops at once.
        times 32 db 0
        dd 0x800, 2, 0x11, 0x22, 0x33, 0x44, 0x700, 0x55, 0x66, 0x77
        dd 0x20, 0x18, 0x28, 0x20, 0, 0, S_LDT, 0
        times 256 - 32 - 18 * 4 db 0
gdt_end:
        times 0x10000 - 0x7c00 - ($ - $$) db 0
