/* What every board runs: it answers the observations of `observations.h`, and says what that took.

   A board has, in a file of its own, `say` (a line of text), `begin` and `taken` (a clock), `stop`, the ends of the
   memory that the stack may grow into, and READ, which reads a float of the table. */

#include BOARD
#include "observations.h"
#include "policy_under_test.h"

#define PAINT 0xa5

static float obs[OBS_SIZE];
static volatile float sink;

static void observe(unsigned row) {
    for (unsigned i = 0; i < OBS_SIZE; i++) obs[i] = READ(&observations[row][i]);
}

static void say_number(char name, uint32_t number) {
    char text[12] = {0};
    unsigned i = 10;
    do {
        text[--i] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    text[--i] = name;
    say(text + i);
}

/* Bytes of stack below this function's own frame that an answer uses, by what it leaves of a colour. */
static __attribute__((noinline)) uint32_t stack_bytes(void) {
    volatile unsigned char *const here = STACK_POINTER;
    volatile unsigned char *lowest = STACK_END;
    while (lowest < here) *lowest++ = PAINT;
    sink = answer(obs);
    lowest = STACK_END;
    while (*lowest == PAINT) lowest++;
    return (uint32_t)(here - lowest);
}

int main(void) {
    uint32_t total = 0, worst = 0;
    open_board();
    observe(0);
    say_number('S', stack_bytes());
    for (unsigned row = 0; row < ROWS; row++) {
        uint32_t one;
        observe(row);
        begin();
        for (unsigned i = 0; i < REPEAT; i++) sink = answer(obs);
        one = taken() / REPEAT;
        total += one;
        worst = one > worst ? one : worst;
        say_number('A', (uint32_t)(int32_t)(sink * 1000.0f + 500000.0f)); /* an answer, as a whole number */
    }
    say_number('C', total / ROWS);
    say_number('W', worst);
    stop();
    return 0;
}
