// One reading a run into a recurrent network, which remembers; reset() lets it forget.
#include "stream.h"

#include "start.h"

int main() {
  stream::init();
  for (int sequence = 0; sequence < 2; ++sequence) {
    for (int at = 0; at < 10; ++at) {
      stream::inputs::reading()[0] = static_cast<float>(at % 4) - 1.5F;
      stream::run();
      say(stream::outputs::level()[0]);
    }
    stream::reset();
  }
  return 0;
}
