// Two networks on one arena, in turns: the stream remembers over the runs of the other.
#include "gesture.h"
#include "start.h"
#include "stream.h"

int main() {
  gesture::init();
  stream::init();
  for (int at = 0; at < 6; ++at) {
    stream::inputs::reading()[0] = static_cast<float>(at % 4) - 1.5F;
    stream::run();
    const float level = stream::outputs::level()[0];
    say(level);
    for (int i = 0; i < 64; ++i) {  // a wave as high as the level
      gesture::inputs::window()[i] = level * static_cast<float>(i % 8 - 4);
    }
    gesture::run();
    for (size_t i = 0; i < gesture::outputs::score_elements; ++i) {
      say(gesture::outputs::score()[i]);
    }
  }
  return 0;
}
