; protected: from the boot sector to 32-bit protected mode with paging, and a timer interrupt that counts.
;
; The steps that every PC operating system takes, in the order in which it must take them:
;   1. real mode: load the rest of the program from disk     5. paging: page directory, page tables
;   2. open the A20 gate                                     6. interrupt table, remapped interrupt controllers
;   3. GDT: flat 4 GiB segments                              7. timer, keyboard; interrupts on
;   4. protected mode
;
; Build:  nasm -f bin -o protected.img protected.asm

        org 0x7c00

COM1            equ 0x3f8
PIC1            equ 0x20                ; interrupt controllers: command port, data port at + 1
PIC2            equ 0xa0
PIT             equ 0x40                ; timer: channel 0, command port at + 3
PIT_HZ          equ 1193182
TICK_HZ         equ 100
KEYBOARD        equ 0x60
SYSTEM_A        equ 0x92                ; bit 1: A20 gate
DEBUG_EXIT      equ 0xf4                ; isa-debug-exit, when the machine has one

CODE            equ 0x08                ; selectors: offsets into our GDT
DATA            equ 0x10
FIRST_VECTOR    equ 0x20                ; IRQ 0 arrives here; 0-1Fh belong to the CPU's own exceptions
KEY_Q           equ 0x10                ; scan code (set 1)

PAGE_DIRECTORY  equ 0x10000             ; one page: each entry stands for 4 MiB
PAGE_TABLE_LOW  equ 0x11000             ; maps 0-4 MiB onto themselves
PAGE_TABLE_HIGH equ 0x12000             ; maps our demonstration window
PRESENT_WRITE   equ 0x003
WINDOW          equ 0xc0000000          ; linear address at which the text screen appears once more
TEXT            equ 0xb8000             ; its physical address
SECTORS         equ 4                   ; behind the boot sector

; --- 1. Real mode: the firmware has loaded one sector; fetch the others ---
        bits 16
start:
        jmp 0x0000:settled
settled:
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7c00
        mov [boot_drive], dl            ; the firmware says which drive we come from

        mov ax, 0x0003                  ; 80x25 text, cleared
        int 0x10
        mov ax, 0x0200 + SECTORS        ; INT 13h, function 2: read AL sectors
        mov bx, 0x7e00                  ; to ES:BX, right behind this one
        mov cx, 0x0002                  ; cylinder 0, sector 2 (they count from 1)
        mov dh, 0                       ; head 0
        mov dl, [boot_drive]
        int 0x13
        jc no_disk

; --- 2. The A20 gate: without it address bit 20 is always 0, as on the 8086 ---
        in al, SYSTEM_A
        or al, 0x02
        and al, 0xfe                    ; bit 0 would reset the machine
        out SYSTEM_A, al

; --- 3. and 4. Flat segments, then protected mode ---
        cli                             ; the firmware's interrupt handlers are of no use from here on
        lgdt [gdt_pointer]
        mov eax, cr0
        or al, 1                        ; CR0.PE
        mov cr0, eax
        jmp CODE:protected              ; loads CS from the GDT: now 32-bit code

no_disk:
        mov si, disk_error
.print:
        lodsb
        test al, al
        jz .halt
        mov ah, 0x0e
        int 0x10
        jmp .print
.halt:
        hlt
        jmp .halt

boot_drive      db 0
disk_error      db "protected: cannot read the disk", 0

        align 8
gdt:
        dq 0                            ; entry 0 is never used
        dq 0x00cf9a000000ffff           ; code: base 0, limit 4 GiB, 32-bit, execute/read
        dq 0x00cf92000000ffff           ; data: base 0, limit 4 GiB, 32-bit, read/write
gdt_pointer:
        dw $ - gdt - 1
        dd gdt

        times 510 - ($ - $$) db 0
        dw 0xaa55

; --- From here on: loaded by step 1 ---
        bits 32
protected:
        mov ax, DATA
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov esp, 0x7c00
        cld

; --- 5. Paging: the first 4 MiB onto themselves, and WINDOW onto the text screen ---
        mov edi, PAGE_DIRECTORY
        xor eax, eax
        mov ecx, 3 * 1024
        rep stosd                       ; an entry of 0 is "not present"
        mov dword [PAGE_DIRECTORY], PAGE_TABLE_LOW | PRESENT_WRITE
        mov dword [PAGE_DIRECTORY + (WINDOW >> 22) * 4], PAGE_TABLE_HIGH | PRESENT_WRITE
        mov dword [PAGE_TABLE_HIGH], TEXT | PRESENT_WRITE
        mov edi, PAGE_TABLE_LOW
        mov eax, PRESENT_WRITE
.map:
        stosd
        add eax, 0x1000
        cmp eax, 0x400000
        jb .map
        mov eax, PAGE_DIRECTORY
        mov cr3, eax
        mov eax, cr0
        or eax, 0x80000000              ; CR0.PG; the code goes on because it is mapped onto itself
        mov cr0, eax

        mov esi, title
        mov edi, WINDOW + 1 * 160       ; row 1, through the window: it appears on the real screen
        mov ah, 0x1f                    ; white on blue
        call print

; --- 6. Interrupts: three gates, and controllers that do not clash with the CPU's exceptions ---
        mov edi, 14                     ; page fault
        mov eax, page_fault
        call set_gate
        mov edi, FIRST_VECTOR
        mov eax, timer
        call set_gate
        mov edi, FIRST_VECTOR + 1
        mov eax, keyboard
        call set_gate
        lidt [idt_pointer]

        mov al, 0x11                    ; ICW1: begin, in cascade, with ICW4
        out PIC1, al
        out PIC2, al
        mov al, FIRST_VECTOR            ; ICW2: first vector
        out PIC1 + 1, al
        mov al, FIRST_VECTOR + 8
        out PIC2 + 1, al
        mov al, 0x04                    ; ICW3: the second controller hangs on line 2
        out PIC1 + 1, al
        mov al, 0x02
        out PIC2 + 1, al
        mov al, 0x01                    ; ICW4: 8086 mode
        out PIC1 + 1, al
        out PIC2 + 1, al
        mov al, 0xfc                    ; masks: only the timer (0) and the keyboard (1)
        out PIC1 + 1, al
        mov al, 0xff
        out PIC2 + 1, al

; --- 7. The timer, 100 times a second ---
        mov al, 0x34                    ; channel 0, both bytes, mode 2 (rate generator)
        out PIT + 3, al
        mov al, (PIT_HZ / TICK_HZ) & 0xff
        out PIT, al
        mov al, (PIT_HZ / TICK_HZ) >> 8
        out PIT, al
        sti

; Touch an address that is not mapped: the handler maps it, and the instruction runs again.
        mov dword [WINDOW + 0x1000], 0x86
        mov esi, fault_text
        mov edi, WINDOW + 4 * 160
        mov ah, 0x0e
        call print

        mov esi, ready
        mov edi, WINDOW + 6 * 160
        mov ah, 0x0a
        call print
        mov esi, ready
        call send

idle:
        hlt                             ; until the next interrupt
        mov eax, [ticks]
        mov edi, WINDOW + 3 * 160 + 7 * 2
        call print_number
        cmp dword [ticks], TICK_HZ      ; after one second, say so
        jne idle
        cmp byte [told], 0
        jne idle
        inc byte [told]
        mov esi, second
        call send
        jmp idle

; --- Interrupt handlers: save what they use, return with IRET ---
timer:
        push eax
        inc dword [ticks]
        mov al, 0x20                    ; end of interrupt
        out PIC1, al
        pop eax
        iretd

keyboard:
        push eax
        in al, KEYBOARD
        cmp al, KEY_Q
        je quit
        mov al, 0x20
        out PIC1, al
        pop eax
        iretd
quit:
        mov esi, bye
        call send
        mov al, 0x2a
        out DEBUG_EXIT, al              ; ends the emulator with status (2Ah << 1) | 1
        cli                             ; a machine without that device only stops
        hlt

; The CPU has pushed an error code and put the address into CR2. Give the page some memory.
page_fault:
        push eax
        push edx
        mov eax, cr2
        mov edx, eax
        shr edx, 12
        and edx, 0x3ff                  ; its place in the table of the window
        mov dword [PAGE_TABLE_HIGH + edx * 4], 0x13000 | PRESENT_WRITE
        invlpg [eax]
        inc dword [faults]
        pop edx
        pop eax
        add esp, 4                      ; the error code
        iretd

; --- Helpers ---
; Makes gate EDI of the IDT an interrupt gate to EAX.
set_gate:
        lea edi, [idt + edi * 8]
        mov [edi], ax                   ; offset, low half
        mov word [edi + 2], CODE
        mov word [edi + 4], 0x8e00      ; present, ring 0, 32-bit interrupt gate
        shr eax, 16
        mov [edi + 6], ax
        ret

; Prints the zero-terminated text at ESI to EDI with attribute AH.
print:
        lodsb
        cmp al, 13                      ; the line ends are for the serial port
        je .done
        test al, al
        jz .done
        stosw
        jmp print
.done:
        ret

; Prints EAX in decimal, five digits, to EDI.
print_number:
        mov ecx, 5
        mov ebx, 10
.digit:
        xor edx, edx
        div ebx
        or edx, 0x0e30                  ; yellow, and '0' makes a digit
        mov [edi + ecx * 2 - 2], dx
        loop .digit
        ret

; Sends the zero-terminated text at ESI over COM1.
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

title           db " Protected mode, paging, interrupts. Press Q to quit. ", 0
fault_text      db "A page fault has mapped C0001000.", 0
ready           db "protected: ready", 13, 10, 0
second          db "protected: one second", 13, 10, 0
bye             db "protected: bye", 13, 10, 0
ticks           dd 0
faults          dd 0
told            db 0

        align 8
idt_pointer:
        dw idt_end - idt - 1
        dd idt
        align 8
idt:
        times (FIRST_VECTOR + 16) * 8 db 0
idt_end:
        times (SECTORS + 1) * 512 - ($ - $$) db 0
        times 1474560 - ($ - $$) db 0
