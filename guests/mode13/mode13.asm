; mode13: a plasma in VGA mode 13h, 320x200 with 256 colours, paced by the vertical retrace.
;
; Mode 13h is the simplest picture a PC can show: one byte per pixel, 64,000 of them at A000:0000, each an
; index into a palette of 256 colours. The plasma adds four sine waves per pixel; the palette then turns by
; one entry per frame, which moves the colours without touching a pixel.
;
; Build:  nasm -f bin -o mode13.img mode13.asm

        org 0x7c00
        bits 16

COM1            equ 0x3f8
INPUT_STATUS    equ 0x3da               ; VGA input status 1: bit 3 = vertical retrace
PALETTE_INDEX   equ 0x3c8               ; which entry is written next
PALETTE_DATA    equ 0x3c9               ; its red, green and blue, 0-63 each, one after the other
SINE            equ 0x8000              ; 256 bytes: a sine from 0 to 63, which we compute first

start:
        jmp 0x0000:settled
settled:
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
        cld

        ; A sine table without a sine: two parabolas look like one. For x = -64..63 a half wave is
        ; 1 - (x/64)^2; the second half is the same, turned upside down.
        mov di, SINE
        xor ax, ax
        mov es, ax
        mov cx, -64
.half:
        mov ax, cx
        imul ax, ax                     ; 0 .. 4096
        shr ax, 7                       ; 0 .. 32
        mov bx, 63
        sub bx, ax                      ; 31 .. 63: the upper half
        mov [di], bl
        mov [di + 128], al              ; 32 .. 0: the lower half
        inc di
        inc cx
        cmp cx, 64
        jne .half

        mov ax, 0x0013                  ; INT 10h, function 0: mode 13h
        int 0x10
        mov si, ready
        call send                       ; tell a program that watches
        mov ax, 0xa000
        mov es, ax                      ; ES:DI points at the pixels

        ; Draw the plasma once: colour = sin(x) + sin(y) + sin(x+y) + sin(2x-y), each 0-63, so 0-252.
        xor di, di
        xor dx, dx                      ; DX = y
.row:
        xor cx, cx                      ; CX = x
.pixel:
        mov bx, cx
        call sine
        mov ah, al
        mov bx, dx
        call sine
        add ah, al
        mov bx, cx
        add bx, dx
        call sine
        add ah, al
        mov bx, cx
        add bx, cx
        sub bx, dx
        call sine
        add al, ah
        stosb
        inc cx
        cmp cx, 320
        jne .pixel
        inc dx
        cmp dx, 200
        jne .row

        xor bp, bp                      ; BP = frame
frame:
        call retrace
        ; While the beam returns, nobody sees the palette: turn it now, or the picture would tear.
        mov dx, PALETTE_INDEX
        xor al, al
        out dx, al
        inc dx
        xor cx, cx                      ; CX = entry
.entry:
        mov bx, cx
        add bx, bp
        call sine                       ; red, green and blue are the same wave, each at its own phase
        out dx, al
        add bx, 85                      ; a third of the circle
        call sine
        out dx, al
        add bx, 85
        call sine
        out dx, al
        inc cx
        cmp cx, 256
        jne .entry
        inc bp

        mov ah, 0x01                    ; INT 16h, function 1: is there a key?
        int 0x16
        jz frame
        xor ah, ah                      ; take it ...
        int 0x16
        mov ax, 0x0003                  ; ... go back to text ...
        int 0x10
        mov si, done
.print:
        lodsb
        test al, al
        jz .halt
        mov ah, 0x0e
        mov bx, 0x0007
        int 0x10
        jmp .print
.halt:
        hlt                             ; ... and rest; interrupts wake us, so in a loop
        jmp .halt

; AL = sine of the angle BL, where 256 is the whole circle.
sine:
        push bx
        xor bh, bh
        mov al, [SINE + bx]
        pop bx
        ret

; Waits for the start of the next vertical retrace: about 70 a second in this mode.
retrace:
        mov dx, INPUT_STATUS
.during:
        in al, dx                       ; leave the one that may be going on
        test al, 0x08
        jnz .during
.before:
        in al, dx
        test al, 0x08
        jz .before
        ret

; Sends the zero-terminated text at DS:SI over COM1.
send:
        mov dx, COM1 + 5
.wait:
        in al, dx
        test al, 0x20
        jz .wait
        lodsb
        test al, al
        jz .done
        mov dx, COM1
        out dx, al
        jmp send
.done:
        ret

ready   db "mode13: ready", 13, 10, 0
done    db "mode13: done", 13, 10, 0

        times 510 - ($ - $$) db 0
        dw 0xaa55
        times 1474560 - ($ - $$) db 0
