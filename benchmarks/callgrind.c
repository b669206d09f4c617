/* Client requests to callgrind, for ctypes: one process counts many rows, each on its own. */
#include <valgrind/callgrind.h>

void start(void) { CALLGRIND_START_INSTRUMENTATION; }

void begin(void) { CALLGRIND_ZERO_STATS; }

void end(const char *label) { CALLGRIND_DUMP_STATS_AT(label); }
