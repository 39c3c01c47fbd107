#include "et/program.h"
#include "program.h"

#ifndef TINY_HASH
#define TINY_HASH 0x0123456789ABCDEF
#endif

namespace et {
namespace program {

namespace {
const int32_t x_sizes[] = {2, 3};
const uint8_t x_order[] = {0, 1};
const int32_t image_sizes[] = {1, 3, 4, 4};
const uint8_t image_order[] = {0, 2, 3, 1};
const int32_t sum_sizes[] = {2};
const int32_t table_sizes[] = {600};
const uint8_t vector_order[] = {0};

const TensorInfo inputs[] = {
    {"x", tiny::arena.x, sizeof(tiny::arena.x), 6, 2, x_sizes, x_order},
    {"image", tiny::arena.image, sizeof(tiny::arena.image), 1, 4, image_sizes, image_order},
};
const TensorInfo outputs[] = {
    {"sum", tiny::arena.sum, sizeof(tiny::arena.sum), 6, 1, sum_sizes, vector_order},
    {"table", tiny::arena.table, sizeof(tiny::arena.table), 3, 1, table_sizes, vector_order},
};
}  // namespace

const char board[] = TINY_BOARD;
const char name[] = "tiny";
const uint64_t hash = TINY_HASH;
const uint32_t method_count = 1;
const uint16_t tensor_counts[] = {2, 2};
const MethodInfo methods[] = {{"forward", inputs, outputs}};
const uint32_t step_count = 3;
const uint16_t step_handles[] = {4, 7, 9};

void init() { tiny::init(); }
void select(uint32_t) {}
void run() { tiny::run(); }

}  // namespace program
}  // namespace et
