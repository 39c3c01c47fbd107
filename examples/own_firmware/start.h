#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

void on_tick(void);                /* yours: called by interrupt */
void start_ticks(uint32_t cycles); /* between two of them */
void say(float value);             /* a line with its bits */

#ifdef __cplusplus
}
#endif
