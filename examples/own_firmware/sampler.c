/* A timer brings readings by interrupt; every 16 of them the network looks at the last 64. In C. */
#include <string.h>

#include "gesture_c.h"
#include "start.h"

enum { window = gesture_input_window_elements, hop = 16, ring = 2 * window, windows = 6 };

static volatile float readings[ring];
static volatile uint32_t count; /* of readings since the start */

/* Instead of a sensor: a triangle that gets steeper. */
static float sensor(uint32_t at) {
  const uint32_t phase = at * (1 + at / 40) % 32;
  return (float)(phase < 16 ? phase : 32 - phase) / 8.0F - 1.0F;
}

void on_tick(void) {
  readings[count % ring] = sensor(count);
  ++count;
}

int main(void) {
  gesture_init();
  start_ticks(2000);
  for (uint32_t end = window; end < window + windows * hop; end += hop) {
    while (count < end) {
      __asm__ volatile("wfi");
    }
    float* const input = gesture_input_window();
    for (uint32_t at = 0; at < window; ++at) {
      input[at] = readings[(end - window + at) % ring];
    }
    gesture_run();
    for (uint32_t at = 0; at < gesture_output_score_elements; ++at) {
      say(gesture_output_score()[at]);
    }
    if (count >= end + ring - window) {
      return 1; /* too slow: readings were overwritten */
    }
  }
  return 0;
}
