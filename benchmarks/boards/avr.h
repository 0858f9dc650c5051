/* ATmega328P: the cycles are Timer 1's, which counts each of them eight at a time. */
#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/pgmspace.h>
#include <avr/sleep.h>
#include <stdint.h>

#define TABLE PROGMEM
#define READ(at) pgm_read_float(at)
extern unsigned char __heap_start;
#define STACK_END (&__heap_start)
#define STACK_POINTER ((volatile unsigned char *)SP + 1)
#define REPEAT 1

static inline void open_board(void) { UCSR0B = 1 << TXEN0; }

static inline void say(const char *text) {
    for (; *text; text++) {
        while (!(UCSR0A & (1 << UDRE0))) {}
        UDR0 = *text;
    }
    while (!(UCSR0A & (1 << UDRE0))) {}
    UDR0 = '\n';
}

static inline void begin(void) {
    TCCR1A = 0;
    TCCR1B = 0;
    TCNT1 = 0;
    TIFR1 = 1 << TOV1;
    TCCR1B = 1 << CS11;
}

/* 4,294,967,295 where the timer's 16 bits were too few. */
static inline uint32_t taken(void) {
    const uint32_t ticks = TCNT1;
    return TIFR1 & (1 << TOV1) ? UINT32_MAX : 8 * ticks;
}

/* Asleep without interrupts it never wakes, and the simulator ends. */
static inline void stop(void) {
    cli();
    sleep_enable();
    sleep_cpu();
}
