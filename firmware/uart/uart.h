// One serial port, polled.
#pragma once

#include <stdint.h>

namespace et {

void uart_init();
void uart_put(uint8_t byte);  // waits until there is room
int32_t uart_get();           // a byte, or -1 when none has come
void uart_flush();            // what was put is on its way

// False: a wait of the clock's set-up failed, and the UART's clock is ET_UART_RESET_HZ instead of ET_UART_HZ.
bool clock_is_set();

}  // namespace et
