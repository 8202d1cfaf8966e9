; hello: a boot sector in real mode that greets in colours, explains segments and echoes keys.
;
; The firmware loads the first 512 bytes of the boot disk to 0000:7C00 and jumps there. From then on the
; machine is ours, and so is the work: there is no operating system, only the firmware's services (INT 10h
; for the screen, INT 16h for the keyboard).
;
; Build:  nasm -f bin -o hello.img hello.asm

        org 0x7c00                      ; addresses count from where the firmware puts us
        bits 16                         ; real mode: 16-bit code

VIDEO_SEGMENT   equ 0xb800              ; colour text screen: a character and an attribute byte per cell
COLUMNS         equ 80
COM1            equ 0x3f8               ; first serial port

start:
        ; Some firmware starts us at 07C0:0000, some at 0000:7C00: the same byte of memory, because a
        ; real-mode address is segment * 16 + offset. A far jump settles which pair we use.
        jmp 0x0000:settled
settled:
        xor ax, ax                      ; our data lies in segment 0, too
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00                  ; the stack grows down from below our code
        cld

        mov ax, 0x0003                  ; INT 10h, function 0: mode 3 is 80x25 text; clears the screen
        int 0x10

        ; Write into video memory ourselves: each colour of the greeting is one attribute byte
        ; (low four bits: the character's colour, the next three: the background's).
        mov ax, VIDEO_SEGMENT
        mov es, ax                      ; ES:DI now points at the screen
        mov di, (2 * COLUMNS + 24) * 2  ; row 2, column 24, two bytes per cell
        mov si, greeting
        mov ah, 0x09                    ; bright blue, and up from there
.letter:
        lodsb                           ; AL = [DS:SI], SI + 1
        test al, al
        jz .greeted
        stosw                           ; [ES:DI] = AX, DI + 2
        inc ah
        cmp ah, 0x10                    ; 16 colours; start again at bright blue
        jb .letter
        mov ah, 0x09
        jmp .letter
.greeted:
        mov dx, 0x0500                  ; row 5, column 0
        call move_cursor
        mov si, lesson
        call print

        ; The lesson's proof: B800:0000 and B000:8000 are the same byte. Read the letter in row 2 both ways.
        mov ax, 0xb000
        mov es, ax
        mov al, [es:0x8000 + (2 * COLUMNS + 24) * 2]
        call put_char
        mov si, ready
        call print
        mov si, ready                   ; and the same words over the serial port, for a program that watches
        call send

echo:
        xor ah, ah                      ; INT 16h, function 0: wait for a key
        int 0x16                        ; AL = character (0 for keys such as F1), AH = scan code
        test al, al
        jz echo
        call put_char
        cmp al, 13                      ; Enter only returns the carriage; a line feed must follow
        jne echo
        mov al, 10
        call put_char
        jmp echo

; Moves the cursor to row DH, column DL.
move_cursor:
        mov ah, 0x02
        xor bh, bh
        int 0x10
        ret

; Prints the character AL at the cursor.
put_char:
        mov ah, 0x0e
        mov bx, 0x0007
        int 0x10
        ret

; Prints the zero-terminated text at DS:SI.
print:
        lodsb
        test al, al
        jz .done
        call put_char
        jmp print
.done:
        ret

; Sends the zero-terminated text at DS:SI over COM1 (the firmware has set its speed).
send:
        mov dx, COM1 + 5                ; line status: bit 5 = ready for the next byte
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

greeting db "Hello from a boot sector, in colours", 0
lesson   db "Real mode: address = segment * 16 + offset.", 13, 10
         db "So B800:0140 = B8000+140 = B000:8140: the screen has two names.", 13, 10
         db "The first letter above, read as B000: ", 0
ready    db 13, 10, 13, 10, "hello: ready", 13, 10, 0

        times 510 - ($ - $$) db 0       ; fill the sector ...
        dw 0xaa55                       ; ... to its signature, without which nothing boots
        times 1474560 - ($ - $$) db 0   ; and the floppy to 1.44 MB
