; What a DOS debugger does: single-steps a program, stops it at a hardware breakpoint, and at the store to a watched
; variable. The debuggee runs in real mode; the handlers of INT 1 are the debugger.
        org 0x7c00
        bits 16
        %include "say.inc"
        cli
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7000
        mov ax, 0x0202                  ; read the two sectors behind this one from drive DL
        mov bx, 0x7e00
        mov cx, 2
        mov dh, 0
        int 0x13
        cli
        jmp begin
        times 510 - ($ - $$) db 0
        dw 0xaa55

begin:  mov word [4], on_debug
        mov word [6], 0

; Single step: TF in the flags that IRET loads. Three instructions, then the handler takes TF away.
        mov byte [mode], 0
        mov bx, 0
        pushf
        pop ax
        or ax, 0x100
        push ax
        push cs
        push word stepped
        iret
stepped:
        inc bx
        inc bx
        inc bx
behind: cmp word [steps], 3
        jne wrong
        cmp word [trace], stepped + 1
        jne wrong
        cmp word [trace + 4], behind
        jne wrong
        mov eax, dr6
        test ax, 0x4000                 ; BS
        jz wrong
        say "debugger: single step"

; A hardware breakpoint on an instruction, hit before it runs and, with RF in the flags, not twice.
        mov byte [mode], 1
        mov word [steps], 0
        xor eax, eax
        mov dr6, eax
        mov eax, target
        mov dr0, eax
        mov eax, 0x00000402             ; G0, execute
        mov dr7, eax
        mov cx, 4
again:  dec cx
target: jnz again
        xor eax, eax
        mov dr7, eax
        cmp word [steps], 4
        jne wrong
        cmp word [trace], target
        jne wrong
        mov eax, dr6
        test al, 1                      ; B0
        jz wrong
        say "debugger: hardware breakpoint"

; A watchpoint: the word at `variable`, writes only. The reads and the neighbours do not stop the program.
        mov byte [mode], 2
        mov word [steps], 0
        xor eax, eax
        mov dr6, eax
        mov eax, variable
        mov dr1, eax
        mov eax, 0x00500408             ; G1, write, two bytes
        mov dr7, eax
        mov ax, [variable]
        mov [variable - 2], ax
        mov [variable + 2], ax
        mov byte [variable + 1], 7
stored: mov ax, [variable]
        mov di, variable - 2
        mov cx, 2
        cld
        rep stosw
strung: xor eax, eax
        mov dr7, eax
        cmp word [steps], 2
        jne wrong
        cmp word [trace], stored
        jne wrong
        cmp word [trace + 2], strung
        jne wrong
        mov eax, dr6
        test al, 2                      ; B1
        jz wrong
        say "debugger: watchpoint"
        say "debugger: all done"
rest:   hlt
        jmp rest
wrong:  say "debugger: WRONG"
        jmp rest

; Notes where the program stopped. Mode 0 ends stepping after the third stop; mode 1 sets RF, so that the instruction
; runs now (a 32-bit IRET has room for it).
on_debug:
        push bp
        mov bp, sp
        push ax
        push bx
        mov bx, [steps]
        add bx, bx
        and bx, 14
        mov ax, [bp + 2]
        mov [trace + bx], ax
        inc word [steps]
        cmp byte [mode], 1
        je .resume
        cmp byte [mode], 0
        jne .back
        cmp word [steps], 3
        jb .back
        and word [bp + 6], ~0x100
.back:  pop bx
        pop ax
        pop bp
        iret
.resume:
        pop bx
        pop ax
        pop bp
        mov [save], eax
        xor eax, eax
        pop ax
        mov [frame], eax                ; EIP
        pop ax
        mov [frame + 4], eax            ; CS
        pop ax
        or eax, 0x10000                 ; RF
        mov [frame + 8], eax
        push dword [frame + 8]
        push dword [frame + 4]
        push dword [frame]
        mov eax, [save]
        iretd

mode    equ 0x600
steps   equ 0x602
trace   equ 0x604
save    equ 0x620
frame   equ 0x624
variable equ 0x642
        times 1474560 - ($ - $$) db 0
