/* A Cortex-M in QEMU: `-icount shift=0` makes an instruction a nanosecond, and SysTick counts at CLOCK hertz. */
#include <stdint.h>

#define TABLE
#define READ(at) (*(at))
#define SYSTICK ((volatile uint32_t *)0xe000e010)
#define RELOAD 0xffffffu
extern unsigned char stack_end;
#define STACK_END (&stack_end)
#define STACK_POINTER stack_pointer()
#define REPEAT 40 /* a tick is 40 or 62.5 instructions */

static inline __attribute__((always_inline)) volatile unsigned char *stack_pointer(void) {
    volatile unsigned char *here;
    __asm__ volatile("mov %0, sp" : "=r"(here));
    return here;
}

static inline void open_board(void) {
    SYSTICK[1] = RELOAD;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5; /* on, by the processor's clock */
}

static inline void semihost(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

static inline void say(const char *text) {
    semihost(4, text);
    semihost(4, "\n");
}

static uint32_t begun;
static inline void begin(void) { begun = SYSTICK[2]; }

/* Instructions. */
static inline uint32_t taken(void) {
    const uint32_t ticks = (begun - SYSTICK[2]) & RELOAD;
    return (uint32_t)((uint64_t)ticks * 1000000000u / CLOCK);
}

static inline void stop(void) { semihost(0x18, (const void *)0x20026); }

int main(void);
extern unsigned char data_from, data_begin, data_end, bss_begin, bss_end, stack_top;
__attribute__((noreturn)) static void start(void) {
    unsigned char *from = &data_from;
    for (unsigned char *to = &data_begin; to < &data_end; to++) *to = *from++;
    for (unsigned char *to = &bss_begin; to < &bss_end; to++) *to = 0;
#if defined(__ARM_FP)
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20; /* the floating-point unit */
#endif
    main();
    for (;;) {}
}
__attribute__((section(".vectors"), used)) static const void *const vectors[2] = {&stack_top, (const void *)start};
